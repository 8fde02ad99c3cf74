# vlfew in a container, from package registries alone (no files are fetched from elsewhere).
#
#   docker build -t vlfew .                                          # CPU, torch from PyTorch's CPU index
#   docker build -t vlfew:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .   # torch with CUDA, from PyPI
#
#   docker run --rm -v "$PWD/runs:/work/runs" vlfew train quickstart
#   docker run --rm -v "$PWD/runs:/work/runs" -v "$PWD/my_images:/data:ro" vlfew train folder data.root=/data
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" vlfew:cuda train quickstart
#
# The default text encoder is inside the image; nothing is downloaded when it runs, unless a model or data set of a hub is named.
ARG PYTHON=3.12

# Builds the wheel, so that the final image has no sources and no build tools.
FROM python:${PYTHON}-slim AS build
WORKDIR /src
RUN pip install --no-cache-dir "build>=1.2,<2"
COPY pyproject.toml README.md LICENSE ./
COPY vlfew ./vlfew
COPY configs ./configs
RUN python -m build --wheel --outdir /dist

FROM python:${PYTHON}-slim
# torch and torchvision come from one index: builds of different indexes do not import next to each other.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --index-url "${TORCH_INDEX}" "torch>=2.11,<3" "torchvision>=0.26,<1"
COPY --from=build /dist/*.whl /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    set -eu; wheel=$(ls /tmp/*.whl); \
    pip install "${wheel}[offline,export,lora,tune,wavelets]"; \
    rm "${wheel}"

# Runs as an ordinary user; the work folder is the place for runs and data.
RUN useradd --create-home --uid 1000 vlfew && mkdir /work && chown vlfew:vlfew /work
USER vlfew
WORKDIR /work
ENTRYPOINT ["vlfew"]
CMD ["--help"]
