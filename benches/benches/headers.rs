//! What it costs to read and write the headers of a CONNECT, beside checking that their text may be a header at all.

use std::{fmt::Display, hint::black_box};

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use hbone::{Baggage, Destination, Forwarded, TraceParent};
use http::HeaderValue;

const ADDRESS: &str = "[2001:db8::7]:8080";
const NAME: &str = "stock.shop.svc.cluster.local:8080";
const BAGGAGE: &str = "k8s.cluster.name=cluster1,k8s.namespace.name=shop,k8s.deployment.name=cart,\
                       service.name=cart,service.version=v1,cloud.region=region-1,cloud.availability_zone=zone-2";
const FORWARDED: &str = "for=\"[2001:db8::9]:40000\";host=\"stock.shop.svc.cluster.local:8080\"";
const TRACE_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn read(criterion: &mut Criterion) {
    let parse_destination = |text: &str| text.parse::<Destination>().expect("a destination");
    let parse_trace_parent = |text: &str| text.parse::<TraceParent>().expect("a traceparent");
    read_one(criterion, "destination-address", ADDRESS, parse_destination);
    read_one(criterion, "destination-name", NAME, parse_destination);
    read_one(criterion, "baggage", BAGGAGE, |text| Baggage::from_lines([text]));
    read_one(criterion, "forwarded", FORWARDED, |text| Forwarded::from_lines([text]));
    read_one(criterion, "traceparent", TRACE_PARENT, parse_trace_parent);
}

fn write(criterion: &mut Criterion) {
    let destination: Destination = ADDRESS.parse().expect("a destination");
    let baggage = Baggage::from_lines([BAGGAGE]);
    let forwarded = Forwarded::from_lines([FORWARDED]);
    let trace_parent: TraceParent = TRACE_PARENT.parse().expect("a traceparent");
    write_one(criterion, "destination-address", &destination, ToString::to_string);
    write_one(criterion, "baggage", &baggage, Baggage::to_header_value);
    write_one(criterion, "forwarded", &forwarded, Forwarded::to_header_value);
    write_one(criterion, "traceparent", &trace_parent, |value| value.to_header_value());
}

fn read_one<T>(criterion: &mut Criterion, name: &str, text: &str, parse: impl Fn(&str) -> T) {
    let mut group = group(criterion, &format!("headers/read/{name}"), text.len());
    group.bench_function("check", |bencher| bencher.iter(|| HeaderValue::from_str(black_box(text))));
    // Values that own memory are dropped outside of what is measured.
    group.bench_function("parse", |bencher| {
        bencher.iter_batched(|| (), |()| parse(black_box(text)), BatchSize::SmallInput);
    });
    group.finish();
}

fn write_one<T: Display, R>(criterion: &mut Criterion, name: &str, value: &T, format: impl Fn(&T) -> R) {
    let text = value.to_string();
    let mut group = group(criterion, &format!("headers/write/{name}"), text.len());
    group.bench_function("check", |bencher| bencher.iter(|| HeaderValue::from_str(black_box(&text))));
    group.bench_function("format", |bencher| {
        bencher.iter_batched(|| (), |()| format(black_box(value)), BatchSize::SmallInput);
    });
    group.finish();
}

fn group<'a>(criterion: &'a mut Criterion, name: &str, bytes: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(bytes as u64));
    group
}

criterion_group!(benches, read, write);
criterion_main!(benches);
