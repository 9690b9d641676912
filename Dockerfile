# canaryd's image: `make image`. Nothing of the build is left in it, and it runs as nobody in particular, on a read-only root.
FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# Dependencies first: they change seldom, so this layer is kept. Their hashes are checked, and each comes as a wheel.
COPY requirements/runtime.txt requirements/
RUN python -m venv /opt/canaryd \
    && /opt/canaryd/bin/pip install --require-hashes --only-binary :all: --no-compile -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
# Without canaryd_sandbox: the simulated cluster of the demo has no place in production.
COPY charts/canaryd/crds charts/canaryd/crds
COPY canaryd canaryd
RUN pip wheel --no-deps --wheel-dir wheels . \
    && /opt/canaryd/bin/pip install --no-deps --no-compile wheels/*.whl \
    # SciPy's own tests, a tenth of the image.
    && find /opt/canaryd/lib -path '*/site-packages/scipy/*' -type d -name tests -prune -exec rm -r {} + \
    # On a read-only root Python cannot keep what it compiles, so it is compiled here. Checked by hash, since layers may lose times.
    && /opt/canaryd/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/canaryd/lib \
    && /opt/canaryd/bin/pip uninstall --yes --quiet pip setuptools \
    # What cannot start is no image.
    && /opt/canaryd/bin/canaryd run --help >/dev/null && /opt/canaryd/bin/canaryd crd >/dev/null \
    && /opt/canaryd/bin/python -c 'import canaryd.app'

FROM python:3.11-slim
LABEL org.opencontainers.image.title="canaryd" \
      org.opencontainers.image.description="Hands-off canary releases for Istio" \
      org.opencontainers.image.licenses="Apache-2.0"
# OPENBLAS_NUM_THREADS: a thread for each core of the node would cost memory and win nothing on arrays this small.
ENV PATH=/opt/canaryd/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
COPY --from=build /opt/canaryd /opt/canaryd
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["canaryd"]
CMD ["run", "--config", "/etc/canaryd/canaryd.yaml", "--policies", "/etc/canaryd/policies"]
