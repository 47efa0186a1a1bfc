# docker build -t seawall . && docker run -p 8080:8080 -v ./seawall.toml:/etc/seawall/seawall.toml seawall
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p seawall-gateway

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/seawall seawall
COPY --from=build /src/target/release/seawall /usr/local/bin/seawall
# Where blocked routes are remembered: a volume keeps them over a restart.
ENV STATE_DIRECTORY=/var/lib/seawall
USER 10001
EXPOSE 8080 9091
ENTRYPOINT ["seawall"]
CMD ["run", "/etc/seawall/seawall.toml"]
