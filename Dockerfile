# A relay in a container: no root, nothing writable but /data. Builds for amd64 and arm64.
#
#   docker build -t sync-relay .
#   docker run -d --name sync-relay -p 8080:8080 -v sync-relay:/data --read-only --cap-drop ALL sync-relay
#   docker exec sync-relay sync-relay admin invites create

# ---- dist/, from the sources ----------------------------------------------------------------------
FROM node:24-bookworm-slim AS dist
WORKDIR /src
COPY package.json package-lock.json ./
# No install scripts: the compiler needs none.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY gen gen
COPY wire wire
COPY server server
COPY client client
COPY cli cli
RUN npm run build && find dist -type f -name '*.d.ts' -delete

# ---- node_modules of the relay, with its native parts for this platform ------------------------------
FROM node:24-bookworm-slim AS modules
WORKDIR /app
RUN apt-get update \
  && apt-get install -y --no-install-recommends busybox-static g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
COPY package.json package-lock.json ./
# Where no prebuilt SQLite is to be had, it is built; the headers are those of this image.
RUN npm_config_nodedir=/usr/local npm ci --omit=dev
# What only builds, and other platforms' binaries, stay behind.
RUN cd node_modules \
  && rm -rf sqlite3/deps sqlite3/src node-addon-api node-gyp prebuild-install .bin \
  && find sqlite3/build -type f ! -name '*.node' -delete \
  && find sqlite3/build -name obj.target -prune -exec rm -rf {} + \
  && find . -path '*/prebuilds/*' -mindepth 3 -maxdepth 3 -type d \
    ! -name "linux-$(node -p process.arch)" -exec rm -rf {} + \
  && find . -type f \( -name '*.md' -o -name '*.map' -o -name '*.ts' -o -name '*.cts' -o -name '*.mts' \
    -o -name '*.c' -o -name '*.h' -o -name '*.gyp' -o -name '*.bare' \) -delete \
  && find . -type d \( -name test -o -name tests -o -name docs -o -name example -o -name examples -o -name benchmarks \) \
    -prune -exec rm -rf {} + \
  && find . -type d -empty -delete
# The root of the last stage: the interpreter without its symbols, the libraries that it and the native parts
# name, and a shell for who looks inside. No package manager, no other program.
RUN mkdir -p /root-of-relay/usr/local/bin /root-of-relay/usr/bin /root-of-relay/bin /root-of-relay/etc \
  && strip -o /root-of-relay/usr/local/bin/node /usr/local/bin/node \
  && find node_modules -name '*.node' -exec strip --strip-unneeded {} + \
  && { ldd /usr/local/bin/node; find node_modules -name '*.node' -exec ldd {} +; } \
    | grep -oE '(/[^ :]+)+ \(0x' | cut -d ' ' -f 1 | sort -u | xargs cp -L --parents -t /root-of-relay \
  && cp /bin/busybox /root-of-relay/bin/ \
  && ln -s busybox /root-of-relay/bin/sh && ln -s busybox /root-of-relay/bin/cat && ln -s busybox /root-of-relay/bin/ls \
  && ln -s ../../bin/busybox /root-of-relay/usr/bin/env \
  && echo 'relay:x:10001:10001::/data:/bin/sh' > /root-of-relay/etc/passwd \
  && echo 'relay:x:10001:' > /root-of-relay/etc/group

# ---- the relay ----------------------------------------------------------------------------------------
FROM scratch
COPY --from=modules /root-of-relay /
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=modules /app/node_modules node_modules
COPY --from=dist /src/dist dist
RUN /bin/busybox ln -s /app/dist/cli/relay/main.js /usr/local/bin/sync-relay \
  && /bin/busybox mkdir -p -m 1777 /tmp && /bin/busybox mkdir -m 0700 /data && /bin/busybox chown 10001:10001 /data
# A small young generation and one allocator arena: about 11 MiB less when idle. A busy relay trades that back
# for fewer collections: -e NODE_OPTIONS= -e MALLOC_ARENA_MAX=
ENV PATH=/usr/local/bin:/usr/bin:/bin \
  HOME=/data \
  NODE_ENV=production \
  NODE_OPTIONS=--max-semi-space-size=2 \
  MALLOC_ARENA_MAX=1 \
  SYNC_RELAY_DATA=/data \
  SYNC_RELAY_LISTEN=0.0.0.0:8080 \
  SYNC_RELAY_LISTEN_ADMIN=127.0.0.1:8081
USER 10001:10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 CMD ["sync-relay", "health"]
ENTRYPOINT ["sync-relay"]
CMD ["serve"]
