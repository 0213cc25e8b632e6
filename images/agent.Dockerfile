# The node agent, with a CRIU of its own. Build from the root of the checkout: docker build -f images/agent.Dockerfile .
FROM debian:trixie AS criu
ARG CRIU_REPO=https://github.com/checkpoint-restore/criu.git
# Not older than 4.2: kernels since 6.16 refuse what older ones do with inet sockets.
ARG CRIU_REF=v4.2
RUN apt-get update && apt-get install -y --no-install-recommends \
    asciidoctor build-essential ca-certificates git libbsd-dev libcap-dev libgnutls28-dev libnet1-dev libnftables-dev \
    libnl-3-dev libprotobuf-c-dev libprotobuf-dev pkg-config protobuf-c-compiler protobuf-compiler python3 uuid-dev
RUN git clone "${CRIU_REPO}" /src/criu && git -C /src/criu checkout "${CRIU_REF}"
RUN make -C /src/criu -j"$(nproc)" criu/criu && install -D /src/criu/criu/criu /usr/sbin/criu
WORKDIR /src
COPY contract contract
COPY images images
COPY native native
RUN python3 -m images.dockerfile criu /out/opt/criu && python3 -m images.dockerfile tools /out

FROM python:3.13-slim-trixie
COPY images/requirements-agent.lock /tmp/requirements.lock
RUN pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes -r /tmp/requirements.lock

COPY --from=criu /out /

WORKDIR /usr/local/lib/python3.13/site-packages
COPY contract contract
COPY linux linux
COPY artifact artifact
COPY daemon daemon
COPY kube kube
COPY agent agent
RUN python3 -m compileall -qq --invalidation-mode unchecked-hash .

WORKDIR /
ENV PYTHONUNBUFFERED=1
USER 0:0
ENTRYPOINT ["python3", "-m", "agent"]
