# The minor version is that of the dev dependency `node` in package.json; a test holds them together.
# It runs on the machine that builds, whatever the image is for: nothing of what it makes is compiled for a processor.
FROM --platform=$BUILDPLATFORM node:26.10-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
COPY scripts/bundle-page.ts ./scripts/
RUN npm run build && npm prune --omit=dev --ignore-scripts && mkdir /spool

# Nothing runs here, so that the image for another processor needs no emulation.
FROM node:26.10-slim
LABEL org.opencontainers.image.title="bsdsyms" \
      org.opencontainers.image.description="The symbol table that Xen places after a BSD kernel, as an HTTP service" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY package.json package-lock.json openapi.json openapi.yaml LICENSE ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
# The one folder that is written to. As a volume it stays writable when the root file system is read-only.
COPY --from=build --chown=node:node /spool /spool
VOLUME /spool
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    BSDSYMS_SPOOL_DIR=/spool
USER node
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8080}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# Node's permission model: the network, the application, the spool and /etc/bsdsyms, where tokens and certificates are
# mounted, and threads, which unpack images; no child processes or addons. /proc is for the metrics of the process.
# BSDSYMS_WORKERS other than 1
# needs --allow-child-process as well, so a command of its own; one container a core does the same with less.
# --allow-net is new since Node 24, and Node says so on stderr unless --disable-warning keeps it quiet. Of --allow-worker it
# warns that threads are not held to these limits; the only threads are those of src/image/unpack-thread.ts.
CMD ["node", "--disable-warning=ExperimentalWarning", "--permission", "--allow-net", "--allow-worker", "--disable-warning=PERM0006", \
  "--allow-fs-read=/app", "--allow-fs-read=/etc/bsdsyms", "--allow-fs-read=/spool", "--allow-fs-write=/spool", \
  "--allow-fs-read=/proc/self/fd", "--allow-fs-read=/proc/self/limits", "--allow-fs-read=/proc/self/status", \
  "dist/service/main.js"]
