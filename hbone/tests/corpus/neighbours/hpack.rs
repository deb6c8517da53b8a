//! Heads of requests and answers, as literals without indexing (RFC 7541 §6.2.2).

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Tunnel,
    Get,
    WithoutAuthority,
    /// With a header that HTTP/2 has not (RFC 9113 §8.2.2). A name with a capital letter makes h2 end the connection.
    Malformed,
}

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    /// First with 103.
    Hint,
    Refuse,
    Malformed,
}

pub(super) fn request(kind: Request, stream: u32) -> Vec<u8> {
    let authority = format!("192.0.2.7:{stream}");
    match kind {
        Request::Tunnel => fields(&[
            (":method", "CONNECT"),
            (":authority", &authority),
            ("baggage", "service.name=a,b=c;d"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]),
        Request::Get => {
            fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", &authority)])
        }
        Request::WithoutAuthority => fields(&[(":method", "CONNECT")]),
        Request::Malformed => {
            fields(&[(":method", "CONNECT"), (":authority", &authority), ("connection", "close")])
        }
    }
}

/// The heads of an answer, in which the stream's number stands, and whether the last of them ends the stream.
pub(super) fn answer(kind: Answer, stream: u32) -> (Vec<Vec<u8>>, bool) {
    let stream = stream.to_string();
    let accept = || fields(&[(":status", "200"), (STREAM, &stream)]);
    match kind {
        Answer::Accept => (vec![accept()], false),
        Answer::Hint => (vec![fields(&[(":status", "103")]), accept()], false),
        Answer::Refuse => (vec![fields(&[(":status", "503")])], true),
        Answer::Malformed => (vec![fields(&[("x", "y")])], false),
    }
}

fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The header of an answer that says on which stream it comes.
pub(super) const STREAM: &str = "x-stream";
