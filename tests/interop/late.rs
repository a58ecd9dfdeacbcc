//! Samples that come out of order: the same requests give the same answers here and in a stock Prometheus, and each
//! reads the log, the head chunks and the blocks that the other made of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use gauntlet::remote::compress;

use crate::messages::Message;
use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, encode, prometheus, try_copy_tree};
use crate::values::post;

const MINUTE_MS: i64 = 60_000;
const STEP_MS: i64 = 15_000;
/// A multiple of two hours.
const START_MS: i64 = 1_699_999_200_000;

/// Both take samples this much older than the newest.
const WINDOW: &str = "storage: {tsdb: {out_of_order_time_window: 3h}}\n";
const OUR_WINDOW: &str = "head.out_of_order_window=3h";

type Sample = (i64, f64);

/// A remote write request.
fn request(series: &[(&str, Vec<Sample>)]) -> Vec<u8> {
    let mut out = Message::default();
    for (name, samples) in series {
        let label = Message::default().text(1, "__name__").text(2, name);
        let mut one = Message::default().message(1, &label);
        for (t, v) in samples {
            let sample = Message::default().double(1, *v);
            one = one.message(2, &sample.varint(2, t.cast_unsigned()));
        }
        out = out.message(1, &one);
    }
    compress(&out.0).unwrap()
}

fn value(n: i64) -> f64 {
    f64::from(i32::try_from(n % 100_000).unwrap()) * 0.37
}

/// What comes in order between two minutes.
fn in_order(from_minute: i64, to_minute: i64) -> Vec<Vec<u8>> {
    let steps = from_minute * 4..to_minute * 4;
    let times: Vec<i64> = steps.map(|n| START_MS + n * STEP_MS).collect();
    let requests = times.chunks(20).map(|times| {
        let all: Vec<Sample> = times.iter().map(|t| (*t, value(t / 1000))).collect();
        let half = all.iter().filter(|(t, _)| t % (2 * STEP_MS) == 0);
        request(&[
            ("plain", all.clone()),
            ("mixed", half.copied().collect()),
            ("twice", all),
        ])
    });
    requests.collect()
}

/// What comes out of order once the newest sample is at `minute`, in a shuffled order.
fn out_of_order(minute: i64) -> Vec<Vec<u8>> {
    let newest = START_MS + minute * MINUTE_MS;
    let shuffled = |n: i64, step_ms: i64, offset_ms: i64| -> Vec<i64> {
        let order = (0..n).map(|i| i * 37 % n);
        order.map(|i| newest - offset_ms - i * step_ms).collect()
    };
    // Between those in order; three chunks and a rest.
    let mixed = shuffled(103, STEP_MS, 7_000);
    // Older than anything taken in order: a series of late samples only.
    let old = shuffled(47, MINUTE_MS, 62 * MINUTE_MS + 300);
    // As far back as may be, so that chunks overlap each other and everything else.
    let wide = shuffled(71, 150_000, 11_000);
    let of = |times: &[i64]| -> Vec<Sample> {
        let sample = |t: &i64| match t % 7 {
            0 => (*t, f64::INFINITY),
            _ => (*t, value(t / 500)),
        };
        times.iter().map(sample).collect()
    };
    let mut requests = Vec::new();
    for part in 0..12 {
        let slice = |times: &[i64]| of(times.chunks(9).nth(part).unwrap_or_default());
        requests.push(request(&[
            ("mixed", slice(&mixed)),
            ("old", slice(&old)),
            ("wide", slice(&wide)),
        ]));
    }
    // The very same again, and what is there in order already.
    requests.push(request(&[("mixed", of(&mixed[90..]))]));
    let known = (5..40).map(|n| newest - MINUTE_MS - n * STEP_MS);
    let known = known.map(|t| (t, value(t / 1000))).collect();
    requests.push(request(&[("twice", known)]));
    requests
}

fn write(peers: &[&Peer], requests: &[Vec<u8>]) {
    for body in requests {
        for peer in peers {
            post(&peer.addr, body);
        }
    }
}

/// Everything that is asked of both.
fn answers(peer: &Peer) -> Vec<String> {
    let end = START_MS / 1000 + 90 * 60;
    let mut paths = Vec::new();
    for name in ["plain", "mixed", "old", "wide", "twice"] {
        let all = encode(&format!("{name}[6h]"));
        paths.push(format!("/api/v1/query?query={all}&time={end}.001"));
        for query in [
            name.to_owned(),
            format!("delta({name}[7m1s])"),
            format!("changes({name}[5m1s])"),
            format!("count_over_time({name}[10m1s])"),
            format!("max_over_time({name}[10m1s]) - min_over_time({name}[3m1s])"),
            format!("timestamp({name})"),
        ] {
            let start = START_MS / 1000 - 3 * 3600;
            let query = encode(&query);
            paths.push(format!(
                "/api/v1/query_range?query={query}&start={start}.001&end={end}.001&step=47"
            ));
        }
    }
    let from = START_MS / 1000 - 4 * 3600;
    let all = encode("{__name__=~\".+\"}");
    for to in [end, START_MS / 1000 - 3600] {
        paths.push(format!(
            "/api/v1/series?match[]={all}&start={from}&end={to}"
        ));
    }
    // Where nothing came in order, 2.42 finds no label.
    let interval = format!("start={from}&end={end}");
    paths.push(format!("/api/v1/label/__name__/values?{interval}"));
    let found = paths.iter().map(|path| {
        let answer = peer.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        format!("{path}\n{}", answer.body)
    });
    found.collect()
}

#[track_caller]
fn assert_alike(left: &Peer, right: &Peer) {
    let (left, right) = (answers(left), answers(right));
    for (left, right) in left.iter().zip(&right) {
        let at = left.bytes().zip(right.bytes());
        let at = at.take_while(|(left, right)| left == right).count();
        let from = at.saturating_sub(200);
        let part = |text: &str| text.chars().skip(from).take(400).collect::<String>();
        let path = left.lines().next().unwrap_or_default();
        assert!(left == right, "{path}\n{}\n{}", part(left), part(right));
    }
    let n_bytes: usize = left.iter().map(String::len).sum();
    println!("{} answers of {n_bytes} bytes are the same", left.len());
    assert!(80_000 < n_bytes, "{n_bytes}");
}

/// A copy as a kill would leave it, of a moment at which no block came or went.
fn copy_of(data: &Path) -> PathBuf {
    let copy = data.with_extension("copy");
    while let Err(error) = try_copy_tree(data, &copy) {
        println!("{error}: something went while it was copied; once more");
        fs::remove_dir_all(&copy).unwrap();
    }
    fs::remove_file(copy.join("lock")).ok();
    copy
}

/// Each opens a copy of what the other has, and answers as the other does.
#[track_caller]
fn assert_alike_on_copies(ours_now: (&Peer, &Path), theirs_now: (&Peer, &Path), flags: &[&str]) {
    let ((gauntlet, our_data), (theirs, their_data)) = (ours_now, theirs_now);
    let (our_copy, their_copy) = (copy_of(our_data), copy_of(their_data));
    assert_alike(&ours(&their_copy, &[]), theirs);
    let stock_on_ours = stock(&our_copy, flags).unwrap();
    assert_alike(gauntlet, &stock_on_ours);
    let log = fs::read_to_string(&stock_on_ours.log).unwrap();
    assert!(!log.contains("level=error"), "{log}");
}

fn beside(data: &Path) -> PathBuf {
    let dir = data.with_extension("logs");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Its log and configuration go beside its data.
fn stock(data: &Path, more: &[&str]) -> Option<Peer> {
    let mut flags = vec![
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=100y",
        "--web.enable-admin-api",
    ];
    flags.extend(more);
    prometheus(&beside(data), data, WINDOW, &flags)
}

fn ours(data: &Path, more: &[&str]) -> Peer {
    let mut settings = vec![
        OUR_WINDOW,
        "retention.time=100y",
        "http.admin_api=true",
        "bucket.ship=false",
    ];
    settings.extend(more);
    gauntlet(
        &beside(data),
        data,
        "global: {scrape_interval: 1h}\n",
        &settings,
    )
}

fn head_files(data: &Path, of: &str) -> u64 {
    let files = fs::read_dir(data.join(of)).unwrap().filter_map(Result::ok);
    files.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn both_answer_the_same_of_late_samples_and_from_the_logs_and_chunks_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let [our_data, their_data] = ["ours", "theirs"].map(|name| dir.path().join(name));
    let Some(theirs) = stock(&their_data, &[]) else {
        return;
    };
    let gauntlet = ours(&our_data, &[]);
    write(&[&gauntlet, &theirs], &in_order(0, 60));
    write(&[&gauntlet, &theirs], &out_of_order(60));
    assert_alike(&gauntlet, &theirs);
    for data in [&our_data, &their_data] {
        assert!(1000 < head_files(data, "wbl"), "{}", data.display());
        assert!(500 < head_files(data, "chunks_head"), "{}", data.display());
    }
    assert_alike_on_copies((&gauntlet, &our_data), (&theirs, &their_data), &[]);
}

/// Ten minutes a block, and the same without merging any there.
const THEIR_BLOCKS: [&str; 2] = [
    "--storage.tsdb.min-block-duration=10m",
    "--storage.tsdb.max-block-duration=10m",
];
const OUR_BLOCKS: [&str; 1] = ["head.block_range=10m"];

/// Blocks made of late samples, and all of them.
fn blocks_of(data: &Path) -> (usize, usize) {
    let entries = fs::read_dir(data).unwrap().filter_map(Result::ok);
    let metas = entries.filter_map(|entry| fs::read_to_string(entry.path().join("meta.json")).ok());
    let metas: Vec<String> = metas.collect();
    let late = metas
        .iter()
        .filter(|meta| meta.contains("from-out-of-order"));
    (late.count(), metas.len())
}

/// Late samples are spread over more blocks than this.
const LATE_BLOCKS: usize = 10;

/// Waits until there are such blocks and nothing has changed for two seconds. A slow disk may pause for longer between two of
/// them.
fn settle(data: &Path) -> (usize, usize) {
    let start = Instant::now();
    let (mut seen, mut since) = (blocks_of(data), Instant::now());
    while seen.0 <= LATE_BLOCKS || since.elapsed() < Duration::from_secs(2) {
        assert!(start.elapsed() < Duration::from_secs(60), "{seen:?}");
        std::thread::sleep(Duration::from_millis(100));
        let now = blocks_of(data);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    seen
}

fn administer(peer: &Peer, deed: &str) -> String {
    let mut stream = TcpStream::connect(&peer.addr).unwrap();
    let request = format!(
        "POST /api/v1/admin/tsdb/{deed} HTTP/1.0\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        peer.addr
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.contains(" 200 ") || answer.contains(" 204 "),
        "{answer}"
    );
    answer
}

/// A snapshot of the database in `data`.
fn snapshot(peer: &Peer, data: &Path) -> PathBuf {
    let answer = administer(peer, "snapshot");
    let (_, name) = answer.split_once("\"name\":\"").unwrap();
    data.join("snapshots").join(name.split('"').next().unwrap())
}

#[test]
fn blocks_of_late_samples_that_overlap_others_answer_the_same_here_and_there() {
    let dir = tempfile::tempdir().unwrap();
    let [our_data, their_data] = ["ours", "theirs"].map(|name| dir.path().join(name));
    let Some(theirs) = stock(&their_data, &THEIR_BLOCKS) else {
        return;
    };
    let gauntlet = ours(&our_data, &OUR_BLOCKS);
    let both = [&gauntlet, &theirs];
    write(&both, &in_order(0, 60));
    write(&both, &out_of_order(60));
    // Ends the last block, and the late samples with it.
    write(&both, &in_order(60, 80));
    for data in [&our_data, &their_data] {
        let (n_late, n_blocks) = settle(data);
        println!("{n_late} of {n_blocks} blocks are of late samples");
        assert!(LATE_BLOCKS < n_late && n_late < n_blocks);
    }
    assert_alike(&gauntlet, &theirs);
    assert_alike_on_copies(
        (&gauntlet, &our_data),
        (&theirs, &their_data),
        &THEIR_BLOCKS,
    );
    for (name, from, to) in [("wide", -9000, 1800), ("mixed", 2000, 3000)] {
        let seconds = START_MS / 1000;
        let (from, to) = (seconds + from, seconds + to);
        let matcher = encode(&format!("{{__name__=\"{name}\"}}"));
        for peer in both {
            let deed = format!("delete_series?match[]={matcher}&start={from}&end={to}");
            administer(peer, &deed);
        }
    }
    assert_alike(&gauntlet, &theirs);
    // Not of the directories: at start 2.42 takes every late chunk back that it finds in chunks_head, though it is in a
    // block and deleted there.
    let (our_own, their_own) = (
        snapshot(&gauntlet, &our_data),
        snapshot(&theirs, &their_data),
    );
    assert_alike(&ours(&their_own, &OUR_BLOCKS), &theirs);
    assert_alike(&gauntlet, &stock(&our_own, &THEIR_BLOCKS).unwrap());
}
