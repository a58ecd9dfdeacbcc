//! One protobuf page, scraped by a stock Prometheus and by us, and written to us by that Prometheus: three databases
//! that say the same.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::messages::Message;
use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, encode, prometheus};

/// Pages, one after the other, a second of timestamps apart.
const N_PAGES: i64 = 12;

/// How long everybody may take to see a page.
const PATIENCE: Duration = Duration::from_secs(30);

/// What everybody is asked; the answers show every field.
const QUERIES: [&str; 8] = [
    "whole[1m]",
    "some[1m]",
    "gauge[1m]",
    "requests_total[1m]",
    "latency[1m]",
    "{__name__=~\"latency_.+|classic_.+\"}[1m]",
    "histogram_count(whole) + histogram_sum(some)",
    "sum(whole) + sum(some)",
];

/// Serves a protobuf page whose samples say their time.
struct Page {
    addr: String,
    number: Arc<AtomicI64>,
    is_over: Arc<AtomicBool>,
    n_plain: Arc<AtomicUsize>,
}

impl Page {
    fn start(start_ms: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let page = Self {
            addr: listener.local_addr().unwrap().to_string(),
            number: Arc::default(),
            is_over: Arc::default(),
            n_plain: Arc::default(),
        };
        let (number, over) = (Arc::clone(&page.number), Arc::clone(&page.is_over));
        let n_plain = Arc::clone(&page.n_plain);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let number = number.load(Ordering::SeqCst);
                let body = body(number, start_ms + 1000 * number);
                let asked = stream.and_then(|stream| answer(stream, &body));
                if !asked.is_ok_and(|head| head.contains("application/vnd.google.protobuf")) {
                    n_plain.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        page
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        TcpStream::connect(&self.addr).ok();
    }
}

fn answer(mut stream: TcpStream, body: &[u8]) -> std::io::Result<String> {
    let mut request = [0u8; 4096];
    let n_read = stream.read(&mut request)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
         encoding=delimited\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    Ok(String::from_utf8_lossy(&request[..n_read]).to_ascii_lowercase())
}

fn message() -> Message {
    Message::default()
}

fn label(name: &str, value: &str) -> Message {
    message().text(1, name).text(2, value)
}

fn exemplar(v: f64, t_ms: i64) -> Message {
    let seconds = (t_ms / 1000).unsigned_abs();
    let nanos = (t_ms % 1000).unsigned_abs() * 1_000_000;
    message()
        .message(1, &label("trace_id", &format!("t{t_ms}")))
        .double(2, v)
        .message(3, &message().varint(1, seconds).varint(2, nanos))
}

fn family(name: &str, kind: u64, metric: &Message) -> Vec<u8> {
    message()
        .text(1, name)
        .text(2, "Some help.")
        .varint(3, kind)
        .message(4, metric)
        .delimited()
}

fn metric(t: i64, field: u64, content: &Message) -> Message {
    message()
        .message(1, &label("path", "/a"))
        .message(field, content)
        .varint(6, t.unsigned_abs())
}

fn float(n: i64) -> f64 {
    f64::from(i32::try_from(n).unwrap())
}

/// Whole counts; buckets come with time, and halfway the counter starts again.
fn whole(n: i64, t: i64) -> Message {
    let n = n % 7 + 1;
    let n_buckets = 2 + n / 3;
    let deltas: Vec<i64> = (0..n_buckets).map(|i| if i == 0 { n } else { 1 }).collect();
    let positive: i64 = (0..n_buckets).map(|i| n + i).sum();
    message()
        .varint(1, (positive + n + 1).unsigned_abs())
        .double(2, 1.5 * float(n))
        .signed(5, 1)
        .double(6, 0.001)
        .varint(7, 1)
        .message(9, &message().signed(1, 3).varint(2, 1))
        .packed(10, &[n])
        .message(
            12,
            &message().signed(1, -2).varint(2, n_buckets.unsigned_abs()),
        )
        .packed(13, &deltas)
        .message(
            3,
            &message()
                .varint(1, 1)
                .double(2, 1.0)
                .message(3, &exemplar(0.75, t)),
        )
}

/// Counts of any kind.
fn some(n: i64) -> Message {
    let n = float(n);
    message()
        .double(4, 1.25 * n + 0.5)
        .double(2, 0.25 * n)
        .double(6, 0.5)
        .double(8, 0.5)
        .message(12, &message().signed(1, 1).varint(2, 2))
        .double(14, 0.75 * n)
        .double(14, 0.5 * n)
}

fn body(n: i64, t: i64) -> Vec<u8> {
    let v = float(n);
    let counter = message().double(1, 10.0 + v).message(2, &exemplar(v, t));
    let quantile = message().double(1, 0.5).double(2, v / 8.0);
    let summary = message()
        .varint(1, n.unsigned_abs())
        .double(2, v / 4.0)
        .message(3, &quantile);
    let bucket = |le: f64, count: i64| message().varint(1, count.unsigned_abs()).double(2, le);
    let classic = message()
        .varint(1, 3 + n.unsigned_abs())
        .double(2, v)
        .message(3, &bucket(0.5, n))
        .message(3, &bucket(2.0, n + 1));
    let mut out = family("whole", 4, &metric(t, 7, &whole(n, t)));
    out.extend(family("some", 4, &metric(t, 7, &some(n + 1))));
    out.extend(family("gauge", 5, &metric(t, 7, &whole(7 - n % 7, t))));
    out.extend(family("requests_total", 0, &metric(t, 3, &counter)));
    out.extend(family("latency", 2, &metric(t, 4, &summary)));
    out.extend(family("classic", 4, &metric(t, 7, &classic)));
    out
}

fn ask(peer: &Peer, query: &str, t_ms: i64) -> String {
    let time = t_ms / 1000;
    let path = format!("/api/v1/query?query={}&time={time}", encode(query));
    peer.get(&path).body
}

#[test]
fn a_protobuf_page_gives_us_what_it_gives_a_stock_prometheus_and_what_that_one_writes() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // A sender leaves out what is older than itself.
    let start_ms = i64::try_from(now.as_secs()).unwrap() * 1000 + 60_000;
    let page = Page::start(start_ms);
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let idle = "global: {scrape_interval: 1h}\n";
    let receiver = gauntlet(&folder("r"), &dir.path().join("received"), idle, &[]);
    let job = format!(
        "- job_name: page\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\n  static_configs: [{{targets: ['{}']}}]\n",
        page.addr
    );
    let remote = format!(
        "remote_write: [{{url: 'http://{}/api/v1/write', send_exemplars: true, send_native_histograms: true, \
         queue_config: {{batch_send_deadline: 200ms}}}}]\n",
        receiver.addr
    );
    let config = format!("scrape_configs:\n{job}{remote}");
    let features = ["--enable-feature=native-histograms,exemplar-storage"];
    let Some(stock) = prometheus(dir.path(), &dir.path().join("stock"), &config, &features) else {
        return;
    };
    let config = format!("scrape_configs:\n{job}  scrape_native_histograms: true\n");
    let ours = gauntlet(&folder("o"), &dir.path().join("ours"), &config, &[]);
    let everybody = [&stock, &ours, &receiver];
    for number in 0..N_PAGES {
        page.number.store(number, Ordering::SeqCst);
        let t = start_ms + 1000 * number;
        let began = Instant::now();
        while everybody
            .iter()
            .any(|peer| !ask(peer, "whole[1s]", t).contains("histograms"))
        {
            assert!(
                began.elapsed() < PATIENCE,
                "page {number}: {}",
                everybody.map(|peer| ask(peer, "whole[1s]", t)).join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let end = start_ms + 1000 * (N_PAGES - 1);
    let mut n_histograms = 0;
    for query in QUERIES {
        let [theirs, ours, written] = everybody.map(|peer| ask(peer, query, end));
        assert!(
            theirs.contains("\"path\":\"/a\"") || query.starts_with("sum"),
            "{query}: {theirs}"
        );
        assert_eq!(ours, theirs, "scraped: {query}");
        assert_eq!(written, theirs, "written: {query}");
        n_histograms += theirs.matches("\"count\"").count();
    }
    compare_exemplars(everybody, start_ms, end);
    assert_eq!(
        page.n_plain.load(Ordering::SeqCst),
        0,
        "protobuf is asked for"
    );
    println!(
        "{n_histograms} histograms and 36 exemplars are the same to the byte in three databases"
    );
    assert!(36 <= n_histograms, "{n_histograms}");
}

fn compare_exemplars(everybody: [&Peer; 3], start: i64, end: i64) {
    let path = format!("/api/v1/query_exemplars?query={}", encode("{path=\"/a\"}"));
    let path = format!("{path}&start={}&end={}", start / 1000, end / 1000);
    let [theirs, ours, written] = everybody.map(|peer| peer.get(&path).body);
    assert_eq!(theirs.matches("trace_id").count(), 36, "{theirs}");
    assert_eq!(ours, theirs, "exemplars that were scraped");
    assert_eq!(written, theirs, "exemplars that were written");
}
