//! A target whose values say when they were served.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Serves `kill_ticks{series="…"}` with a number that grows by one with every scrape.
pub(crate) struct Target {
    pub(crate) addr: String,
    is_over: Arc<AtomicBool>,
}

impl Target {
    /// Starts with `n_series` series.
    pub(crate) fn start(n_series: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let is_over = Arc::new(AtomicBool::new(false));
        let (ticks, over) = (AtomicU64::new(0), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let tick = ticks.fetch_add(1, Ordering::SeqCst);
                stream
                    .and_then(|stream| answer(stream, tick, n_series))
                    .ok();
            }
        });
        Self { addr, is_over }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(&self.addr).ok();
    }
}

fn answer(mut stream: TcpStream, tick: u64, n_series: usize) -> std::io::Result<()> {
    let mut request = [0u8; 4096];
    let _n_read = stream.read(&mut request)?;
    let mut body = "# TYPE kill_ticks counter\n".to_owned();
    for series in 0..n_series {
        body.push_str(&format!("kill_ticks{{series=\"{series}\"}} {tick}\n"));
    }
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}
