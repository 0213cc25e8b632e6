# Nothing but the tool folder: for pods whose images have none (chart value placeholder.inject.image).
# Build from the root of the checkout: docker build -f images/tools.Dockerfile .
FROM debian:trixie-slim AS tools
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3
WORKDIR /src
COPY contract contract
COPY images images
COPY native native
RUN python3 -m images.dockerfile tools /out

FROM scratch
COPY --from=tools /out /
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/opt/dynamo-snapshot/bin/snapshot-standby"]
