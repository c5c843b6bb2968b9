# The package of scripts/package.sh, built from nothing on Debian 12, and a small image that runs it.
#   docker build -t switchyard .
#   docker run --rm -v "$PWD:/work" switchyard train demo.yaml
# Without Docker, scripts/run_dockerfile.sh runs the steps of the first stage in a bare root.
FROM debian:12 AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git python3 patchelf
COPY . .
RUN scripts/setup.sh
RUN cmake --preset release && cmake --build --preset release --target switchyard
RUN scripts/package.sh --out /package

FROM debian:12-slim
COPY --from=build /package/*.tar.gz /tmp/
RUN mkdir /opt/switchyard \
 && tar -xzf /tmp/*.tar.gz -C /opt/switchyard --strip-components=1 \
 && rm /tmp/*.tar.gz \
 && ln -s /opt/switchyard/bin/switchyard /usr/local/bin/
WORKDIR /work
ENTRYPOINT ["switchyard"]
