//! `/status/duties`.

use crate::actors::duty::{Duty, DutyState};
use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::ApiError;
use crate::api::http::json::{push_int, push_text};
use crate::api::http::status::push_time;
use crate::compactor::{DutyProgress, Work};
use crate::model::TimestampMs;

/// How every background job stands; those of the bucket's blocks also how far they are.
pub(super) async fn duties(call: Call) -> Result<Outcome, ApiError> {
    let duties = call.state.status.duties();
    let now_ms = call.state.clock.now_ms();
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"duties\":[");
        for (position, (duty, progress)) in duties.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_duty(out, duty);
            if let Some(progress) = progress {
                out.extend_from_slice(b",\"progress\":");
                push_progress(out, progress, now_ms);
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }))
}

/// Without the closing brace.
fn push_duty(out: &mut Vec<u8>, duty: &Duty) {
    out.extend_from_slice(b"{\"name\":");
    push_text(out, duty.name);
    out.extend_from_slice(b",\"state\":");
    push_text(out, duty.state.as_str());
    match &duty.state {
        DutyState::Ok => (),
        DutyState::Behind { reason } => {
            out.extend_from_slice(b",\"reason\":");
            push_text(out, reason);
        }
        DutyState::Blocked { reason, what_to_do } => {
            out.extend_from_slice(b",\"reason\":");
            push_text(out, reason);
            out.extend_from_slice(b",\"whatToDo\":");
            push_text(out, what_to_do);
        }
    }
    out.extend_from_slice(b",\"since\":");
    push_time(out, Some(duty.since_ms));
    out.extend_from_slice(b",\"nextReportBefore\":");
    push_time(out, Some(duty.due_ms));
}

/// What is not known is absent.
fn push_progress(out: &mut Vec<u8>, progress: &DutyProgress, now_ms: TimestampMs) {
    out.extend_from_slice(b"{\"isRunning\":");
    push_int(out, progress.since_ms.is_some());
    if let Some(since_ms) = progress.since_ms {
        out.extend_from_slice(b",\"runningSince\":");
        push_time(out, Some(since_ms));
    }
    out.extend_from_slice(b",\"worksOn\":[");
    for (position, work) in progress.works.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_work(out, work);
    }
    out.push(b']');
    for (name, n) in [
        ("blocksDone", progress.n_blocks_done),
        ("blocksLeft", progress.n_blocks_left),
        ("bytesDone", progress.n_bytes_done),
        ("bytesLeft", progress.n_bytes_left),
    ] {
        push_number(out, name, n);
    }
    if let Some(eta_ms) = progress.eta_ms {
        push_number(out, "secondsLeft", eta_ms / 1_000);
        let end_ms = now_ms.saturating_add(i64::try_from(eta_ms).unwrap_or(i64::MAX));
        out.extend_from_slice(b",\"estimatedEnd\":");
        push_time(out, Some(end_ms));
    }
    if let Some((ended_ms, took_ms)) = progress.last {
        out.extend_from_slice(b",\"lastEnd\":");
        push_time(out, Some(ended_ms));
        push_number(out, "lastMilliseconds", took_ms.unsigned_abs());
    }
    out.push(b'}');
}

fn push_work(out: &mut Vec<u8>, work: &Work) {
    out.extend_from_slice(b"{\"what\":");
    push_text(out, &work.what);
    push_number(out, "bytesDone", work.n_bytes_done);
    push_number(out, "bytes", work.n_bytes);
    out.push(b'}');
}

fn push_number(out: &mut Vec<u8>, name: &str, n: u64) {
    out.push(b',');
    push_text(out, name);
    out.push(b':');
    push_int(out, n);
}
