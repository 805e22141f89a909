# The minor version is that of the dev dependency `node` in package.json; a test holds them together.
FROM node:24.21-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:24.21-slim
LABEL org.opencontainers.image.title="bsdsyms" \
      org.opencontainers.image.description="The symbol table that Xen places behind a BSD kernel, as an HTTP service" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force
COPY --from=build /app/dist ./dist
COPY openapi.yaml LICENSE ./
# The one folder that is written to. As a volume it stays writable when the root file system is read-only.
RUN mkdir /spool && chown node:node /spool
VOLUME /spool
ENV NODE_ENV=production \
    HOST=0.0.0.0 \
    BSDSYMS_SPOOL_DIR=/spool
USER node
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8080}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/main.js"]
