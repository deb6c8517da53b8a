use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// The answer to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// Sends one HTTP/1.0 GET and reads until the server closes: enough for a proxy's own endpoints.
pub(super) fn get(mut stream: TcpStream, path: &str) -> io::Result<HttpResponse> {
    write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(answer: &str) -> Option<HttpResponse> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(HttpResponse { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read() {
        let response = parse("HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nready\n").unwrap();
        assert_eq!(response, HttpResponse { status: 200, body: "ready\n".to_owned() });
    }

    #[test]
    fn something_else_is_not_an_answer() {
        assert_eq!(parse("SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(parse("HTTP/1.1 200 OK\r\n"), None);
    }
}
