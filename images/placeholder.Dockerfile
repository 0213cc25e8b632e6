# A placeholder: any runtime image, unchanged but for snapshot-standby and the record of its own entrypoint and cmd.
# `make docker-build-placeholder` reads the two with `docker inspect` and passes them on as JSON.
ARG PLACEHOLDER_BASE_IMG

FROM debian:trixie-slim AS tools
ARG BASE_ENTRYPOINT=null
ARG BASE_CMD=null
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3
WORKDIR /src
COPY contract contract
COPY images images
COPY native native
RUN python3 -m images.dockerfile tools /out "${BASE_ENTRYPOINT}" "${BASE_CMD}"

FROM ${PLACEHOLDER_BASE_IMG}
COPY --from=tools /out /
