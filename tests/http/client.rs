//! A client that sends what it is told, byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A response without its headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    /// Each line with its end.
    pub(crate) headers: &'a str,
    pub(crate) body: &'a [u8],
}

impl<'a> Ask<'a> {
    pub(crate) fn get(target: &'a str) -> Self {
        Self {
            method: "GET",
            target,
            headers: "",
            body: b"",
        }
    }
}

/// One request of HTTP/1.0, so that the answer comes in one piece and ends the connection; `None` when nobody answers.
pub(crate) async fn send(port: u16, ask: Ask<'_>) -> Option<Reply> {
    let whole = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let Ask {
            method,
            target,
            headers,
            body,
        } = ask;
        let mut request = format!(
            "{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        // In one piece: Prometheus answers without waiting for a body it does not need, and resets the connection, with the
        // answer on its way, when that comes afterwards.
        request.extend_from_slice(body);
        stream.write_all(&request).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        String::from_utf8(answer).ok()
    };
    let answer = timeout(Duration::from_secs(10), whole).await.ok()??;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        body: body.to_owned(),
    })
}
