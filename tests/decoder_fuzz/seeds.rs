//! Good pages and requests, one of everything.

use crate::messages::Message;

pub(crate) fn text() -> Vec<Vec<u8>> {
    [
        "# HELP a_seconds Help \\n text.\n# TYPE a_seconds summary\na_seconds{quantile=\"0.5\",x=\"y\\\"z\"} 1.5 1520879607789\n\
         a_seconds_sum 3\na_seconds_count 7\nplain NaN\n# comment\n{\"http.x\",\"é\"=\"v\"} 2e3\nlast +Inf\n",
        "# TYPE h histogram\nh_bucket{a=\"b\",le=\"1\"} 4\nh_bucket{a=\"b\",le=\"2.5\"} 6\nh_bucket{a=\"b\",le=\"+Inf\"} 7\n\
         h_sum{a=\"b\"} 12.5\nh_count{a=\"b\"} 7\nh_bucket{a=\"c\",le=\"+Inf\"} 0.5\nh_count{a=\"c\"} 0.5\nx 0x\n",
    ]
    .map(|page| page.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn openmetrics() -> Vec<Vec<u8>> {
    [
        "# TYPE c counter\n# UNIT c_seconds seconds\n# HELP c text\nc_total{a=\"b\"} 17.0 1520.789 # {id=\"K\"} 0.67 1520.9\n\
         c_created{a=\"b\"} 1.5\nc_total 1\n# TYPE i info\ni_info{x=\"y\"} 1\n{\"q.q\",z=\"é\"} 1\nu 2\n# EOF\n",
        "# TYPE h histogram\nh_bucket{le=\"1.0\"} 4 # {id=\"x\"} 0.5\nh_bucket{le=\"+Inf\"} 7 # {} 5 1.5\nh_count 7\nh_sum 3\n\
         h_created 1.25\n# TYPE g gauge\ng 1\n# EOF\n",
    ]
    .map(|page| page.as_bytes().to_vec())
    .to_vec()
}

fn message() -> Message {
    Message::default()
}

fn label(name: &str, value: &str) -> Message {
    message().text(1, name).text(2, value)
}

fn family(name: &str, kind: u64, metrics: &[Message]) -> Vec<u8> {
    let head = message()
        .text(1, name)
        .text(2, "Help.")
        .varint(3, kind)
        .text(5, "seconds");
    metrics
        .iter()
        .fold(head, |family, metric| family.message(4, metric))
        .delimited()
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|v| v.to_bits().to_le_bytes())
        .collect()
}

pub(crate) fn protobuf() -> Vec<Vec<u8>> {
    let time = message().varint(1, 1_520_879_607).varint(2, 789_000_000);
    let exemplar = message()
        .message(1, &label("id", "x"))
        .double(2, 0.5)
        .message(3, &time);
    let bucket = |le: f64, count: u64| message().varint(1, count).double(2, le);
    let counter = message()
        .double(1, 7.0)
        .message(2, &exemplar)
        .message(3, &time);
    let summary = message()
        .varint(1, 3)
        .double(2, 1.5)
        .message(3, &message().double(1, 0.5).double(2, 9.0));
    let native = message()
        .varint(1, 6)
        .double(2, 12.5)
        .message(3, &bucket(1.0, 2).message(3, &exemplar))
        .message(3, &bucket(f64::INFINITY, 6))
        .signed(5, 3)
        .double(6, 0.001)
        .varint(7, 1)
        .message(9, &message().signed(1, 0).varint(2, 1))
        .packed(10, &[1])
        .message(12, &message().signed(1, -2).varint(2, 1))
        .message(12, &message().signed(1, 3).varint(2, 2))
        .packed(13, &[2, -1, 0])
        .message(15, &time)
        .message(16, &exemplar);
    let float = message()
        .double(4, 1.5)
        .double(8, 0.5)
        .message(12, &message().signed(1, 1).varint(2, 2))
        .bytes(14, &doubles(&[0.75, 0.25]));
    let metric = |field, content: &Message| {
        message()
            .message(1, &label("path", "/a"))
            .message(field, content)
            .varint(6, 1500)
    };
    let mut first = family("c", 0, &[metric(3, &counter), metric(3, &counter)]);
    first.extend(family("s", 2, &[metric(4, &summary)]));
    first.extend(family("g", 1, &[metric(2, &message().double(1, 1.0))]));
    let mut second = family("h", 4, &[metric(7, &native), metric(7, &native)]);
    second.extend(family("f", 5, &[metric(7, &float)]));
    vec![first, second]
}

fn histogram() -> Message {
    message()
        .varint(1, 5)
        .double(3, 4.5)
        .signed(4, 1)
        .double(5, 0.001)
        .varint(6, 1)
        .message(8, &message().signed(1, 1).varint(2, 1))
        .packed(9, &[1])
        .message(11, &message().signed(1, 2).varint(2, 2))
        .packed(12, &[2, -1])
        .varint(14, 2)
        .varint(15, 50)
}

fn custom() -> Message {
    message()
        .double(2, 0.75)
        .signed(4, -53)
        .message(11, &message().signed(1, 0).varint(2, 2))
        .bytes(13, &doubles(&[0.5, 0.25]))
        .varint(15, 60)
        .bytes(16, &doubles(&[1.0]))
}

pub(crate) fn write_v1() -> Vec<u8> {
    let sample = |t, v| message().double(1, v).varint(2, t);
    let exemplar = message()
        .message(1, &label("id", "x"))
        .double(2, 0.5)
        .varint(3, 9);
    let series = |name| {
        message()
            .message(1, &label("__name__", name))
            .message(1, &label("job", "a"))
            .message(2, &sample(10, 1.5))
            .message(2, &sample(20, 2.5))
            .message(3, &exemplar)
            .message(4, &histogram())
            .message(4, &custom())
    };
    let metadata = message()
        .varint(1, 3)
        .text(2, "a")
        .text(4, "Help.")
        .text(5, "s");
    let request = message()
        .message(1, &series("a"))
        .message(1, &series("b"))
        .message(3, &metadata);
    request.0
}

pub(crate) fn write_v2() -> Vec<u8> {
    let symbols = ["", "__name__", "a", "job", "b", "id", "Help.", "seconds"];
    let exemplar = message().bytes(1, &[5, 4]).double(2, 0.5).varint(3, 9);
    let series = |name: u8| {
        message()
            .bytes(1, &[1, name, 3, 4])
            .message(2, &message().double(1, 1.5).varint(2, 10).varint(3, 4))
            .message(3, &histogram().varint(17, 5))
            .message(3, &custom())
            .message(4, &exemplar)
            .message(5, &message().varint(1, 3).varint(3, 6).varint(4, 7))
    };
    let request = symbols
        .iter()
        .fold(message(), |all, symbol| all.text(4, symbol))
        .message(5, &series(2))
        .message(5, &series(4));
    request.0
}
