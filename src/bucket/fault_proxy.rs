//! Stands before an HTTP server and answers badly on purpose, as networks and stores do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireFault {
    /// It is served.
    None,
    /// 503, and come back in so many seconds.
    Unavailable(u64),
    /// The connection ends before it is read.
    Refused,
    /// It is served, and the connection ends before the answer.
    Unheard,
    /// The answer begins after so long.
    Slow(Duration),
    /// Half of the answer comes.
    Truncated,
}

/// Longer than any client of a test waits.
const SILENCE: Duration = Duration::from_secs(600);

/// Decides what happens to the request with this number.
type Plan = dyn Fn(u64) -> WireFault + Send + Sync;

/// A proxy that ends with the test.
pub(crate) struct FaultProxy {
    pub(crate) endpoint: String,
    n_requests: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Passes requests on to `upstream` as `plan` says.
    pub(crate) async fn start(
        upstream: String,
        plan: impl Fn(u64) -> WireFault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let n_requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&n_requests);
        let plan: Arc<Plan> = Arc::new(plan);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (upstream, plan) = (upstream.clone(), Arc::clone(&plan));
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    serve(socket, &upstream, &plan, &counter).await;
                });
            }
        });
        Self {
            endpoint,
            n_requests,
            accepting,
        }
    }

    /// So many of a hundred requests are hit by one of all faults, some by an answer that is late for
    /// good; which ones, the seed says.
    pub(crate) async fn at_random(upstream: String, percent: u32, seed: u64) -> Self {
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        Self::start(upstream, move |_| {
            let mut dice = dice.lock();
            if percent <= dice.random_range(0..100) {
                return WireFault::None;
            }
            match dice.random_range(0..5) {
                0 => WireFault::Unavailable(0),
                1 => WireFault::Refused,
                2 => WireFault::Unheard,
                3 if dice.random_range(0..8) == 0 => WireFault::Slow(SILENCE),
                3 => WireFault::Slow(Duration::from_millis(dice.random_range(5..100))),
                _ => WireFault::Truncated,
            }
        })
        .await
    }

    /// Requests so far.
    pub(crate) fn n_requests(&self) -> u64 {
        self.n_requests.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves one request; each has a connection of its own.
async fn serve(mut socket: TcpStream, upstream: &str, plan: &Arc<Plan>, counter: &AtomicU64) {
    let Some(request) = read_request(&mut socket).await else {
        return;
    };
    let fault = plan(counter.fetch_add(1, Ordering::SeqCst));
    match fault {
        WireFault::Refused => return,
        WireFault::Unavailable(seconds) => {
            let answer = format!(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            socket.write_all(answer.as_bytes()).await.ok();
            return;
        }
        WireFault::None | WireFault::Unheard | WireFault::Slow(_) | WireFault::Truncated => (),
    }
    let Some(answer) = ask(upstream, &request).await else {
        return;
    };
    let sent = match fault {
        WireFault::Unheard => return,
        WireFault::Truncated => half(&answer),
        WireFault::Slow(pause) => {
            tokio::time::sleep(pause).await;
            &answer
        }
        WireFault::None | WireFault::Unavailable(_) | WireFault::Refused => &answer,
    };
    socket.write_all(sent).await.ok();
    socket.shutdown().await.ok();
}

/// Half of the content, or of the head where there is none.
fn half(answer: &[u8]) -> &[u8] {
    let head = head_len(answer).unwrap_or(0);
    let content = answer.len() - head;
    if content == 0 {
        &answer[..head / 2]
    } else {
        &answer[..head + content / 2]
    }
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Head and content, with a head that asks for the end of the connection.
async fn read_request(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = head_len(&bytes) {
            break head;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    while bytes.len() < head + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut request = text.trim_end().as_bytes().to_vec();
    request.extend_from_slice(b"\r\nConnection: close\r\n\r\n");
    request.extend_from_slice(&bytes[head..]);
    Some(request)
}

async fn ask(upstream: &str, request: &[u8]) -> Option<Vec<u8>> {
    let mut socket = TcpStream::connect(upstream).await.ok()?;
    socket.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    Some(answer)
}
