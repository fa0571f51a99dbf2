# maskrt for x86-64, from this clone:
#
#     docker build -f examples/docker/x86_64.Dockerfile -t maskrt .
#     docker run --rm -v "$PWD:/data" maskrt run street.maskrt pictures/ -o out/
#
# With an NVIDIA GPU (driver 580 or later and the container toolkit), TensorRT-RTX's engines as well:
#
#     docker build -f examples/docker/x86_64.Dockerfile --build-arg EXTRAS=cpu,video,rtx -t maskrt .
#     docker run --rm --gpus all -v "$PWD:/data" maskrt run street.maskrt pictures/ --target rtx \
#         --trust-key vendor.pub -o out/
#
# An engine for a GPU that was built outside of the container is opened if it is signed (docs/trust.md).
#
# EXTRAS=demo has PyTorch, too, and compiles models; that image has several gigabytes.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim
ARG EXTRAS=cpu,video
COPY --from=wheel /wheel /wheel
# The wheel's own bounds say what is taken.
# hadolint ignore=DL3013
RUN set -eu; wheel="$(ls /wheel/maskrt-*.whl)"; \
    pip install --no-cache-dir "${wheel}[${EXTRAS}]"; \
    useradd --create-home --uid 1000 user; \
    install --directory --owner user --mode 0700 /home/user/.local/state/maskrt
USER 1000
WORKDIR /data
ENTRYPOINT ["maskrt"]
CMD ["--help"]
