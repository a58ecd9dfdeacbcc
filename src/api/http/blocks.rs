//! `/blocks` and `/blocks/mark`, as Thanos' block viewer asks them.

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::ApiError;
use crate::api::http::json::push_text;
use crate::api::http::state::{BlockMark, MarkAction};
use crate::api::http::status::push_time;
use crate::model::BlockId;

pub(super) async fn blocks(call: Call) -> Result<Outcome, ApiError> {
    let is_loaded = call.form.value("view") == "loaded";
    let view = call.state.status.blocks(is_loaded).await?;
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"label\":");
        push_text(out, &view.label);
        out.extend_from_slice(b",\"blocks\":[");
        for (position, meta) in view.metas.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(meta);
        }
        out.extend_from_slice(b"],\"refreshedAt\":");
        push_time(out, view.refreshed_ms);
        out.extend_from_slice(b",\"err\":");
        match &view.error {
            Some(error) => push_text(out, error),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }))
}

pub(super) async fn mark(call: Call) -> Result<Outcome, ApiError> {
    if !call.state.settings.has_admin {
        return Err(ApiError::bad_data("Admin operations are disabled"));
    }
    let (id, action) = (call.form.value("id"), call.form.value("action"));
    if id.is_empty() {
        return Err(ApiError::bad_data("ID cannot be empty"));
    }
    if action.is_empty() {
        return Err(ApiError::bad_data("Action cannot be empty"));
    }
    let block: BlockId = id.parse().map_err(|flaw| {
        let reason = format!("ULID {id:?} is not valid: {flaw}");
        ApiError::bad_data(reason)
    })?;
    let action = match action {
        "DELETION" => MarkAction::Deletion,
        "NO_COMPACTION" => MarkAction::NoCompaction,
        _ => {
            let reason = format!("not supported marker {action}");
            return Err(ApiError::bad_data(reason));
        }
    };
    let mark = BlockMark {
        block,
        action,
        details: call.form.value("detail").to_owned(),
    };
    call.state.admin.mark_block(mark).await?;
    Ok(Reply::with(|out| out.extend_from_slice(b"null")))
}
