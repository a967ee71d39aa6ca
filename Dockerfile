# The relay as an image. Debian, because uWebSockets.js is a program for glibc: Alpine cannot run it.
# How to run it: deploy/README.md. Built and run for real by deploy/image/check.sh.
ARG NODE_IMAGE=node:22-trixie-slim

# What runs: packages without those for development. valibot names TypeScript as an optional peer, so npm brings it.
FROM ${NODE_IMAGE} AS packages
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/var/cache/npm npm ci --cache /var/cache/npm --omit=dev --ignore-scripts \
 && rm -rf node_modules/typescript node_modules/@typescript

# The native data plane, compiled for the Node that will load it.
FROM ${NODE_IMAGE} AS native
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ make python3 \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY scripts/build-native.mjs ./scripts/
COPY native ./native
RUN node scripts/build-native.mjs --required

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/var/cache/npm npm ci --cache /var/cache/npm --ignore-scripts
COPY tsconfig.json ./
COPY scripts/build.mjs ./scripts/
COPY src ./src
RUN npm run build

FROM ${NODE_IMAGE} AS runtime
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="halfway" \
      org.opencontainers.image.description="A self-hosted relay with the protocol of Azure Relay Hybrid Connections" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# The configuration is mounted there; relative paths in it (keys, certificates) start from its folder.
ENV NODE_ENV=production \
    HALFWAY_CONFIG=/etc/halfway/halfway.yaml
WORKDIR /app
COPY LICENSE NOTICE package.json ./
COPY --from=packages /app/node_modules ./node_modules
COPY --from=native /app/native/build ./native/build
COPY --from=build /app/dist ./dist
# Numbers, so that an orchestrator can check that it is not root.
USER 1000:1000
# The admin port (9090) stays on the container's loopback until it gets a host and a token.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["node", "dist/main.js", "healthcheck", "--quiet", "--timeout-ms", "3000"]
# Node itself is process 1 and gets the signals.
ENTRYPOINT ["node", "--enable-source-maps", "dist/main.js"]
CMD ["serve"]
