//! The bytes that PROTOCOL.md shows are the bytes that travel.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{collections::HashMap, fmt::Write};

use bytes::Bytes;
use hbone::{
    Baggage, ConnectRequest, ConnectResponse, Forwarded, Refusal, ResetReason, TraceParent, WorkloadKind,
    client, server,
};
use http::HeaderValue;
use support::{
    PIPE, destination,
    frames::{self, DATA, GOAWAY, HEADERS, RST_STREAM},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Duration, Instant},
};

const DOCUMENT: &str = include_str!("../PROTOCOL.md");
const PREFACE: usize = 24;

/// The dumps of the document by name: code blocks that begin with ```` ```hex NAME ````, with remarks after a semicolon.
fn dumps() -> HashMap<&'static str, Vec<u8>> {
    lines()
        .into_iter()
        .map(|(name, lines)| (name, lines.into_iter().flat_map(|(bytes, _)| bytes).collect()))
        .collect()
}

/// The same, line by line with the remarks; lines without one are part of the line before.
fn lines() -> HashMap<&'static str, Vec<(Vec<u8>, &'static str)>> {
    let blocks = DOCUMENT.split("```hex ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            let mut lines: Vec<(Vec<u8>, &str)> = Vec::new();
            for line in rest.split("```").next().unwrap().lines() {
                let (hex, remark) =
                    line.split_once(';').map_or((line, None), |(hex, remark)| (hex, Some(remark)));
                let digits: Vec<_> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
                let bytes = digits.chunks(2).map(|pair| {
                    u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16)
                        .expect("two hexadecimal digits")
                });
                match remark {
                    Some(remark) => lines.push((bytes.collect(), remark.trim())),
                    None => lines.last_mut().unwrap().0.extend(bytes),
                }
            }
            (name.trim(), lines)
        })
        .collect()
}

/// A dump that is there.
fn dump(name: &str) -> Vec<u8> {
    dumps().remove(name).filter(|bytes| !bytes.is_empty()).unwrap()
}

#[track_caller]
fn assert_documented(name: &str, actual: &[u8]) {
    let documented = dumps().remove(name).unwrap_or_default();
    let hex = actual.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    assert!(documented == actual, "PROTOCOL.md does not show {name} as it is: {hex}");
}

fn client_builder() -> client::Builder {
    client::Builder::new().stream_window(4 << 20).connection_window(16 << 20).max_frame_size(1 << 20)
}

fn server_builder() -> server::Builder {
    server::Builder::new().stream_window(4 << 20).connection_window(16 << 20).max_frame_size(1 << 20)
}

fn source_baggage() -> Baggage {
    Baggage::new()
        .with_cluster("Kubernetes")
        .with_namespace("shop")
        .with_workload(WorkloadKind::Deployment, "cart")
}

fn traceparent() -> TraceParent {
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().unwrap()
}

fn forwarded() -> Forwarded {
    Forwarded::new("192.0.2.1:4321".parse().unwrap())
}

fn documented_request() -> ConnectRequest {
    ConnectRequest::new(destination())
        .with_baggage(source_baggage())
        .with_forwarded(forwarded())
        .with_traceparent(traceparent())
}

fn documented_response() -> ConnectResponse {
    ConnectResponse::new().with_baggage(
        Baggage::new()
            .with_cluster("Kubernetes")
            .with_namespace("bank")
            .with_workload(WorkloadKind::Pod, "ledger-0"),
    )
}

/// The bytes of the next frame, whatever it is.
async fn next_frame(io: &mut DuplexStream) -> Vec<u8> {
    let mut frame = vec![0; 9];
    io.read_exact(&mut frame).await.unwrap();
    let length = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
    frame.resize(9 + length, 0);
    io.read_exact(&mut frame[9..]).await.unwrap();
    frame
}

/// The bytes of the next frame of a kind.
async fn next_of(io: &mut DuplexStream, kind: u8) -> Vec<u8> {
    loop {
        let frame = next_frame(io).await;
        if frame[3] == kind {
            return frame;
        }
    }
}

/// What is sent first: the settings and the connection's window.
async fn opening(io: &mut DuplexStream, preface: usize) -> Vec<u8> {
    let mut bytes = vec![0; preface];
    io.read_exact(&mut bytes).await.unwrap();
    while bytes.len() < preface + 1 || bytes[bytes.len() - 13 + 3] != frames::WINDOW_UPDATE {
        bytes.extend(next_frame(io).await);
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn client_sends_what_is_written() {
    let (near, mut wire) = duplex(PIPE);
    let (send, connection) = client_builder().handshake(near).await.unwrap();
    tokio::spawn(connection);
    assert_documented("client-opening", &opening(&mut wire, PREFACE).await);
    wire.write_all(&dump("server-opening")).await.unwrap();

    let (tunnel, ()) = tokio::join!(send.connect(documented_request()), async {
        assert_documented("request", &next_of(&mut wire, HEADERS).await);
        wire.write_all(&dump("response")).await.unwrap();
    });
    let tunnel = tunnel.unwrap();
    let baggage = tunnel.response().baggage().unwrap();
    assert_eq!((baggage.namespace(), baggage.workload_name()), (Some("bank"), Some("ledger-0")));
    let (mut recv, mut send_half) = tunnel.into_split();
    send_half.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_documented("data", &next_of(&mut wire, DATA).await);
    send_half.finish().unwrap();
    assert_documented("end", &next_of(&mut wire, DATA).await);
    wire.write_all(&dump("end")).await.unwrap();
    assert!(recv.data().await.is_none());

    let inner = ConnectRequest::new("cart.shop.svc.cluster.local:80".parse::<hbone::Destination>().unwrap())
        .with_forwarded_network(HeaderValue::from_static("network-1"));
    let (refused, ()) = tokio::join!(send.connect(inner), async {
        assert_documented("request-by-name", &next_of(&mut wire, HEADERS).await);
        wire.write_all(&dump("refusal")).await.unwrap();
    });
    assert_eq!(refused.unwrap_err().status().map(|status| status.as_u16()), Some(401));
}

#[tokio::test(start_paused = true)]
async fn server_sends_what_is_written() {
    let (near, mut wire) = duplex(PIPE);
    wire.write_all(&dump("client-opening")).await.unwrap();
    let mut connection = server_builder().handshake(near).await.unwrap();
    let mut handle = Some(connection.handle());
    wire.write_all(&dump("request")).await.unwrap();
    let incoming = connection.accept().await.unwrap().unwrap();
    assert_eq!(incoming.destination(), &destination());
    assert_eq!(incoming.baggage(), Some(source_baggage()));
    assert_eq!(incoming.forwarded(), Some(forwarded()));
    assert_eq!(incoming.traceparent(), Some(traceparent()));
    let mut tunnel = incoming.accept_with(documented_response()).unwrap();
    let driver = tokio::spawn(async move {
        while let Some(Ok(incoming)) = connection.accept().await {
            incoming.refuse(Refusal::Denied);
        }
    });
    assert_documented("server-opening", &opening(&mut wire, 0).await);
    assert_documented("response", &next_of(&mut wire, HEADERS).await);
    wire.write_all(&dump("data")).await.unwrap();
    let mut text = [0; 5];
    tunnel.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    tunnel.reset(ResetReason::ConnectError);
    assert_documented("reset", &next_of(&mut wire, RST_STREAM).await);
    wire.write_all(&dump("request-by-name")).await.unwrap();
    assert_documented("refusal", &next_of(&mut wire, HEADERS).await);

    if let Some(handle) = handle.take() {
        handle.drain(Instant::now() + Duration::from_secs(5));
    }
    let first = next_of(&mut wire, GOAWAY).await;
    assert_documented("goaway-first", &first);
    // The last one waits until the peer has answered a ping, so that what it sent before is not lost.
    let ping = next_of(&mut wire, frames::PING).await;
    wire.write_all(&frames::encode(frames::PING, frames::ACK, 0, &ping[9..])).await.unwrap();
    assert_documented("goaway-last", &next_of(&mut wire, GOAWAY).await);
    driver.await.unwrap();
}

/// Checks what is said about the head of a frame: its kind, and whatever else is said (RFC 9113 §4.1).
fn assert_frame(head: &[u8], remark: &str) {
    let mut said = remark.split([',', ':']).map(str::trim).filter(|said| !said.is_empty());
    let kinds =
        ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "", "PING", "GOAWAY", "WINDOW_UPDATE"];
    assert_eq!(said.next(), Some(kinds[usize::from(head[3])]));
    let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
    let mut flags = 0;
    for said in said {
        match said.split(' ').collect::<Vec<_>>()[..] {
            ["connection"] => assert_eq!(stream, 0),
            ["stream", id] => assert_eq!(stream, id.parse().unwrap()),
            [length, "bytes"] => {
                assert_eq!(u32::from_be_bytes([0, head[0], head[1], head[2]]), length.parse().unwrap())
            }
            ["END_STREAM"] | ["ACK", ..] => flags |= 0x1,
            ["END_HEADERS"] => flags |= 0x4,
            _ => panic!("{said}"),
        }
    }
    assert_eq!(head[4], flags, "{remark}");
}

/// Checks what is said about a setting (RFC 9113 §6.5.1).
fn assert_setting(entry: &[u8], name: &str, value: &str) {
    let names = [
        "",
        "",
        "ENABLE_PUSH",
        "MAX_CONCURRENT_STREAMS",
        "INITIAL_WINDOW_SIZE",
        "MAX_FRAME_SIZE",
        "MAX_HEADER_LIST_SIZE",
    ];
    assert_eq!(name, names[usize::from(u16::from_be_bytes(entry[..2].try_into().unwrap()))]);
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => panic!("{value}"),
    };
    assert_eq!(u32::from_be_bytes(entry[2..].try_into().unwrap()), number.parse::<u32>().unwrap() * unit);
}

/// The fields that remarks name, and the checks of everything else they say.
fn remarked(name: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for (bytes, remark) in lines().remove(name).unwrap() {
        match remark.split_once(" = ") {
            _ if bytes.len() == 9 && !remark.starts_with(':') => assert_frame(&bytes, remark),
            Some((setting, value)) if bytes.len() == 6 => assert_setting(&bytes, setting, value),
            _ if remark.starts_with("\"PRI") => {
                assert_eq!(format!("{:?}", String::from_utf8(bytes).unwrap()), remark)
            }
            _ if remark.starts_with('"') => assert_eq!(remark.trim_matches('"').as_bytes(), bytes),
            _ if bytes.len() == 4 && !remark.starts_with(':') => {
                let number = match remark {
                    "16 MiB less the 65,535 that it begins with" => (16 << 20) - 65_535,
                    "CONNECT_ERROR" => ResetReason::ConnectError.code(),
                    "last stream: 2^31 - 1" => (1 << 31) - 1,
                    "last stream: 3" => 3,
                    "NO_ERROR" => ResetReason::NoError.code(),
                    _ => panic!("{remark}"),
                };
                assert_eq!(u32::from_be_bytes(bytes.try_into().unwrap()), number, "{remark}");
            }
            _ => fields.push(remark.trim_end_matches(", as before").to_owned()),
        }
    }
    fields
}

fn written(headers: &http::HeaderMap) -> impl Iterator<Item = String> {
    headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
}

// Read by h2, which made none of it.
#[tokio::test(start_paused = true)]
async fn remarks_say_what_the_bytes_beside_them_say() {
    for name in ["client-opening", "server-opening", "data", "end", "reset", "goaway-first", "goaway-last"] {
        assert_eq!(remarked(name), [""; 0], "{name}");
    }

    let (near, mut wire) = duplex(PIPE);
    wire.write_all(&[dump("client-opening"), dump("request"), dump("request-by-name")].concat())
        .await
        .unwrap();
    let mut server = h2::server::handshake(near).await.unwrap();
    for name in ["request", "request-by-name"] {
        let (request, respond) = server.accept().await.unwrap().unwrap();
        let pseudo = [format!(":method: {}", request.method()), format!(":authority: {}", request.uri())];
        let fields: Vec<_> = pseudo.into_iter().chain(written(request.headers())).collect();
        assert_eq!(remarked(name), fields);
        drop(respond);
    }

    let (near, mut wire) = duplex(PIPE);
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    wire.read_exact(&mut [0; PREFACE]).await.unwrap();
    wire.write_all(&dump("server-opening")).await.unwrap();
    for name in ["response", "refusal"] {
        let mut send = send.clone().ready().await.unwrap();
        let (response, _body) = send.send_request(support::raw_connect("192.0.2.7:8080"), false).unwrap();
        next_of(&mut wire, HEADERS).await;
        wire.write_all(&dump(name)).await.unwrap();
        let response = response.await.unwrap();
        let status = format!(":status: {}", response.status().as_u16());
        let fields: Vec<_> = std::iter::once(status).chain(written(response.headers())).collect();
        assert_eq!(remarked(name), fields);
    }
}
