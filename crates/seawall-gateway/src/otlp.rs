//! Traces and metrics for an OpenTelemetry collector, by OTLP over HTTP.
//!
//! **Mechanics.** A request's `traceparent` (W3C Trace Context) is continued, or a trace begins where there is
//! none that is valid; the upstream is told this span as its parent, and the `tracestate` of a valid one. A trace that its caller samples is
//! sampled, of those that begin here a share. Spans and metrics leave in batches, on threads of their own.
//! The metrics are those of `/metrics`, with the same names and labels; of a histogram, whose counts the SDK
//! takes only one by one, the parts are counters.
//!
//! **Edges.** A collector that does not answer costs the spans that it would have got: what waits for it is
//! bounded, and no request waits at all. What it does not take is counted and said ([`Deliveries`]).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{self, Sampler, SdkTracer, SdkTracerProvider, SpanData};
use seawall::now;
use seawall_config::Otlp;

use crate::proxy::road::Road;
use crate::telemetry::{self, Deliveries, Signal};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The most members of a `tracestate`.
const STATES_MAX: usize = 32;
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What is sent to a collector.
#[derive(Clone, Debug)]
pub(crate) struct Exports {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    meter: Meter,
    deliveries: Arc<Deliveries>,
    /// The metrics that it knows already.
    known: Arc<Mutex<HashSet<String>>>,
}

impl Exports {
    /// To the collector that the config names.
    pub(crate) fn new(config: &Otlp) -> Result<Exports, ExporterBuildError> {
        let deliveries = Arc::<Deliveries>::default();
        let resource = || Resource::builder().with_service_name("seawall").build();
        let at = |path: &str| format!("{}/{path}", config.endpoint);
        let spans = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let spans = spans.with_endpoint(at("v1/traces")).with_timeout(TIMEOUT).build()?;
        let share = Sampler::TraceIdRatioBased(f64::from(config.traces) / 1e6);
        let traces = SdkTracerProvider::builder()
            .with_batch_exporter(Watched { exporter: spans, deliveries: deliveries.clone() })
            .with_sampler(Sampler::ParentBased(Box::new(share)))
            .with_resource(resource())
            .build();
        let points = MetricExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let points = points.with_endpoint(at("v1/metrics")).with_timeout(TIMEOUT).build()?;
        let points = Watched { exporter: points, deliveries: deliveries.clone() };
        let reader = PeriodicReader::builder(points).with_interval(config.metrics_every.into()).build();
        let metrics = SdkMeterProvider::builder().with_reader(reader).with_resource(resource()).build();
        let meter = metrics.meter("seawall");
        Ok(Exports { traces, metrics, meter, deliveries, known: Arc::default() })
    }

    /// How the collector takes what it is sent.
    pub(crate) fn deliveries(&self) -> Arc<Deliveries> {
        self.deliveries.clone()
    }

    /// What begins spans.
    pub(crate) fn tracer(&self) -> Tracer {
        Tracer(self.traces.tracer("seawall"))
    }

    /// Takes up the metrics that there are by now.
    pub(crate) fn discover(&self, road: &Arc<ArcSwap<Road>>) {
        let text = telemetry::metrics(&road.load());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
            if !known.insert(name.to_owned()) {
                continue;
            }
            for (name, line, kind) in instruments(name, kind) {
                self.observe(name, line, kind, road.clone());
            }
        }
    }

    fn observe(&self, name: String, line: String, kind: Kind, road: Arc<ArcSwap<Road>>) {
        let read = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<f64>| {
            let text = telemetry::metrics(&road.load());
            for (labels, value) in text.lines().filter_map(|of| sample(of, &line)) {
                observer.observe(value, &labels);
            }
        };
        match kind {
            Kind::Counter => _ = self.meter.f64_observable_counter(name).with_callback(read).build(),
            Kind::Gauge => _ = self.meter.f64_observable_gauge(name).with_callback(read).build(),
        }
    }

    /// Sends what is left. Takes as long as the collector may.
    pub(crate) fn finish(&self) {
        let ended = [self.traces.shutdown(), self.metrics.shutdown()];
        for error in ended.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "the collector did not take the last of it");
        }
    }
}

/// An exporter whose failures are counted and said.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    deliveries: Arc<Deliveries>,
}

impl<E> Watched<E> {
    fn note(&self, signal: Signal, result: OTelSdkResult) -> OTelSdkResult {
        match &result {
            Ok(()) => self.deliveries.succeeded(signal),
            Err(error) => self.deliveries.failed(now(), signal, error),
        }
        result
    }
}

impl trace::SpanExporter for Watched<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.note(Signal::Traces, result)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for Watched<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.note(Signal::Metrics, result)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// The names under which a metric of this kind is sent, and the lines of `/metrics` that say it.
fn instruments(name: &str, kind: &str) -> Vec<(String, String, Kind)> {
    match kind {
        "counter" => vec![(name.to_owned(), format!("{name}_total"), Kind::Counter)],
        "histogram" => ["bucket", "sum", "count"]
            .map(|part| format!("{name}_{part}"))
            .map(|part| (part.clone(), part, Kind::Counter))
            .into(),
        _ => vec![(name.to_owned(), name.to_owned(), Kind::Gauge)],
    }
}

/// Labels and value of a line of `/metrics` about this name.
fn sample(line: &str, name: &str) -> Option<(Vec<KeyValue>, f64)> {
    let rest = line.strip_prefix(name)?;
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let label = |label: &str| {
        let (name, value) = label.split_once("=\"")?;
        Some(KeyValue::new(name.to_owned(), value.trim_end_matches('"').to_owned()))
    };
    let labels = labels.split("\",").filter_map(label).collect();
    Some((labels, value.split(' ').next()?.parse().ok()?))
}

/// Begins spans.
#[derive(Clone, Debug)]
pub(crate) struct Tracer(SdkTracer);

/// The time from a request to the beginning of its answer.
pub(crate) struct Span(opentelemetry_sdk::trace::Span);

impl Tracer {
    /// A request of this route has come; its headers are made to name the span.
    pub(crate) fn begin(&self, headers: &mut HeaderMap, method: &Method, path: &str, route: &str) -> Span {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let parent = lines.next().filter(|_| lines.next().is_none()).and_then(parent);
        // The state of a trace that is not valid is none, and one that is not valid itself ends here.
        if parent.is_none() || !is_state(headers) {
            headers.remove(TRACESTATE);
        }
        let context =
            parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let attributes = vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("url.path", path.to_owned()),
        ];
        let name = format!("{method} {route}");
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let span = self.0.build_with_context(builder, &context);
        let named = span.span_context();
        let (trace, id, flags) = (named.trace_id(), named.span_id(), named.trace_flags().to_u8());
        if let Ok(value) = HeaderValue::try_from(format!("00-{trace}-{id}-{flags:02x}")) {
            headers.insert(TRACEPARENT, value);
        }
        Span(span)
    }
}

impl Span {
    /// It was answered, perhaps by ourselves and for this reason.
    pub(crate) fn end(mut self, status: StatusCode, reason: Option<&str>) {
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if let Some(reason) = reason {
            self.0.set_attribute(KeyValue::new("seawall.reason", reason.to_owned()));
        }
        if status.is_server_error() {
            self.0.set_status(Status::error(""));
        }
        self.0.end();
    }
}

/// The span that a request comes from, if what it says is valid.
fn parent(value: &HeaderValue) -> Option<SpanContext> {
    let text = value.to_str().ok()?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (known, rest) = text.split_at_checked(55)?;
    let mut parts = known.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    let is_known = version == "00" && rest.is_empty();
    let is_newer = version != "00" && version != "ff" && (rest.is_empty() || rest.starts_with('-'));
    if !lengths || !(is_known || is_newer) || ![version, trace, span, flags].into_iter().all(is_hex) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 1);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
    parent.is_valid().then_some(parent)
}

/// Whether the lines of `tracestate` together are a list of at most 32 members, each a key of its own and a
/// value.
fn is_state(headers: &HeaderMap) -> bool {
    let mut keys: Vec<&str> = Vec::new();
    headers.get_all(TRACESTATE).iter().all(|line| {
        let Ok(line) = line.to_str() else { return false };
        let members = line.split(',').map(|member| member.trim_matches([' ', '\t']));
        members.filter(|member| !member.is_empty()).all(|member| {
            let Some((key, value)) = member.split_once('=') else { return false };
            let is_fine = keys.len() < STATES_MAX && is_member(key, value) && !keys.contains(&key);
            keys.push(key);
            is_fine
        })
    })
}

fn is_member(key: &str, value: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inside = |byte: u8| is_small(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/');
    let is_part = |part: &str, most: usize, is_first: fn(u8) -> bool| {
        part.bytes().next().is_some_and(is_first) && part.len() <= most && part.bytes().all(is_inside)
    };
    let is_key = match key.split_once('@') {
        None => is_part(key, 256, is_letter),
        Some((tenant, system)) => is_part(tenant, 241, is_small) && is_part(system, 14, is_letter),
    };
    let is_text = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    is_key && !value.is_empty() && value.len() <= 256 && value.bytes().all(is_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_state_is_passed_on() {
        let is_valid = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (TRACESTATE, HeaderValue::from_str(line).unwrap()));
            is_state(&lines.collect())
        };
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert!(is_valid(&["foo=1,bar=2 3", "", "7t@sys=!~ , \tz0-*/_=x"]));
        assert!(is_valid(&[&many(32)]));
        assert!(is_valid(&[&format!("{}={}", "a".repeat(256), "b".repeat(256))]));
        for wrong in [
            "foo",
            "foo=",
            "=1",
            "Foo=1",
            "0foo=1",
            "foo =1",
            "foo@=1",
            "@foo=1",
            "foo@bar@baz=1",
            "foo=1=2",
            "foo@0bar=1",
            "foo.bar=1",
            "foo@abcdefghijklmno=1",
        ] {
            assert!(!is_valid(&[wrong]), "{wrong}");
        }
        for twice in [&["foo=1,foo=2"][..], &["foo=1,bar=2", "foo=1"]] {
            assert!(!is_valid(twice), "{twice:?}");
        }
        assert!(!is_valid(&[&many(33)]));
        assert!(!is_valid(&[&many(32), "more=1"]));
        assert!(!is_valid(&[&format!("{}=1", "a".repeat(257))]));
        assert!(!is_valid(&[&format!("a={}", "b".repeat(257))]));
    }

    #[test]
    fn only_a_valid_parent_is_continued() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let valid = |text: &str| parent(&HeaderValue::from_str(text).unwrap()).is_some();
        assert!(valid(&format!("00-{trace}-b7ad6b7169203331-01")));
        assert!(valid(&format!("cc-{trace}-b7ad6b7169203331-01-what-comes")));
        for wrong in [
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{trace}-b7ad6b7169203331-01-more"),
            format!("cc-{trace}-b7ad6b7169203331-01more"),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{trace}-b7ad6b7169203331"),
            String::new(),
        ] {
            assert!(!valid(&wrong), "{wrong}");
        }
    }

    #[test]
    fn lines_of_metrics_are_read_back() {
        let read = |line, name| sample(line, name).map(|(labels, value)| (labels.len(), value));
        assert_eq!(read("seawall_x_total{route=\"r\",reason=\"shed\"} 7", "seawall_x_total"), Some((2, 7.0)));
        assert_eq!(read("seawall_up 0.5", "seawall_up"), Some((0, 0.5)));
        assert_eq!(read("seawall_up_total 1", "seawall_up"), None);
        assert_eq!(read("# HELP seawall_up", "seawall_up"), None);
        assert_eq!(read("seawall_x_bucket{le=\"+Inf\",route=\"r\"} 3", "seawall_x_bucket"), Some((2, 3.0)));
    }

    #[test]
    fn a_histogram_is_sent_in_parts() {
        let names = |name, kind| instruments(name, kind).into_iter().map(|(name, line, _)| (name, line));
        let of = |name: &str, line: &str| (name.to_owned(), line.to_owned());
        assert!(names("x", "counter").eq([of("x", "x_total")]));
        assert!(names("x", "gauge").eq([of("x", "x")]));
        let parts = ["x_bucket", "x_sum", "x_count"].map(|part| of(part, part));
        assert!(names("x", "histogram").eq(parts));
    }
}
