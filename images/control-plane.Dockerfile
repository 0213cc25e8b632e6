# Webhook and controller. Build from the root of the checkout: docker build -f images/control-plane.Dockerfile .
FROM python:3.13-slim-trixie

COPY images/requirements-control-plane.lock /tmp/requirements.lock
RUN pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes -r /tmp/requirements.lock

WORKDIR /usr/local/lib/python3.13/site-packages
COPY contract contract
COPY linux linux
COPY artifact artifact
COPY daemon daemon
COPY kube kube
COPY certs certs
COPY webhook webhook
COPY controller controller
COPY snapshotctl snapshotctl
RUN python3 -m compileall -qq --invalidation-mode unchecked-hash .

WORKDIR /
ENV PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python3", "-m"]
CMD ["webhook"]
