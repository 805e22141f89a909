/** OpenTelemetry traces. The packages are loaded only when the standard OTEL_* variables ask for traces. */
import type { FastifyPluginCallback } from 'fastify';

export interface Tracing {
  /** Makes a span for every request, as a child of the span that its traceparent names. */
  readonly plugin: FastifyPluginCallback;
  /** Sends the spans that wait. */
  stop(): Promise<void>;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether the environment asks for traces: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ */
export function wantsTracing(env: Environment): boolean {
  if (env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true') return false;
  const exporter = env['OTEL_TRACES_EXPORTER'];
  if (exporter !== undefined && exporter !== '') return exporter === 'otlp';
  return Boolean(env['OTEL_EXPORTER_OTLP_ENDPOINT'] ?? env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT']);
}

/**
 * Starts the SDK; the exporter reads its settings (OTEL_EXPORTER_OTLP_*) from the environment itself.
 *
 * @returns null when no traces are wanted
 */
export async function startTracing(env: Environment): Promise<Tracing | null> {
  if (!wantsTracing(env)) return null;
  const [{ FastifyOtelInstrumentation }, { OTLPTraceExporter }, { BatchSpanProcessor, NodeTracerProvider }, resources] =
    await Promise.all([
      import('@fastify/otel'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/sdk-trace-node'),
      import('@opentelemetry/resources'),
    ]);
  const named = resources.resourceFromAttributes({ 'service.name': 'bsdsyms' });
  const provider = new NodeTracerProvider({
    // The environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) takes precedence.
    resource: named.merge(resources.detectResources({ detectors: [resources.envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  provider.register();
  const instrumentation = new FastifyOtelInstrumentation({
    registerOnInitialization: false,
    // Without the query: an imageUrl may hold a secret.
    requestHook: (span, { url }) => span.setAttribute('url.path', url.split('?', 1)[0] ?? ''),
  });
  instrumentation.setTracerProvider(provider);
  return { plugin: instrumentation.plugin(), stop: () => provider.shutdown() };
}
