//! A GET over plain HTTP, for asking a server of this host.
//!
//! HTTP/1.0 on purpose: the answer ends with the connection, so there are no chunks and no keep-alive to handle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::cli::exit::Failure;

/// Answers above this are refused rather than held in memory.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server's own timeout of queries is shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Status and body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Text as it may stand in a path or a query.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Asks `path` of the server with these parameters.
pub(super) fn get(
    server: &str,
    path: &str,
    parameters: &[(&str, &str)],
) -> Result<Answer, Failure> {
    let (url, authority) = parsed(server)?;
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
        .collect();
    let prefix = url.path().trim_end_matches('/');
    let request = format!(
        "GET {prefix}{path}?{} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n",
        query.join("&")
    );
    let failed = |error: std::io::Error| Failure::failed(format!("ask {server}: {error}"));
    let mut stream = connect(&url).map_err(failed)?;
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let n_bytes = stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .map_err(failed)?;
    if n_bytes as u64 == ANSWER_BYTES_MAX {
        let problem = format!("ask {server}: the answer is larger than {ANSWER_BYTES_MAX} bytes");
        return Err(Failure::failed(problem));
    }
    split(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| Failure::failed(format!("ask {server}: the answer is not HTTP")))
}

fn parsed(server: &str) -> Result<(Url, String), Failure> {
    let text = if server.contains("://") {
        server.to_owned()
    } else {
        format!("http://{server}")
    };
    let url: Url = text
        .parse()
        .map_err(|error| Failure::wrong(format!("--url {server}: {error}")))?;
    if url.scheme() != "http" {
        let problem = format!("--url {server}: expected http://host:port");
        return Err(Failure::wrong(problem));
    }
    let authority = url.authority().to_owned();
    Ok((url, authority))
}

fn connect(url: &Url) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in url.socket_addrs(|| Some(80))? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn split(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some(Answer {
        status: status.parse().ok()?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = split("HTTP/1.0 422 Unprocessable\r\na: b\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (422, "{}\r\n\r\n"));
        assert!(split("220 smtp ready\r\n\r\n").is_none());
    }

    #[test]
    fn only_plain_http_is_spoken_and_the_scheme_may_be_left_out() {
        assert!(matches!(parsed("https://x"), Err(Failure::Wrong(_))));
        assert_eq!(parsed("localhost:9090").unwrap().1, "localhost:9090");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("up{a=\"b c\"}"), "up%7Ba%3D%22b%20c%22%7D");
    }
}
