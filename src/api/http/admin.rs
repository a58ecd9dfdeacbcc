//! `/api/v1/admin/tsdb/`: what deletes and copies, for operators who switched it on.

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::{ApiError, ErrorType};
use crate::api::http::json::push_text;
use crate::api::http::params::invalid;

pub(super) async fn delete_series(call: Call) -> Result<Outcome, ApiError> {
    check_enabled(&call)?;
    if call.form.values("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let interval = call.form.interval()?;
    let matcher_sets = call
        .form
        .matcher_sets()
        .map_err(|reason| invalid("match[]", &reason))?;
    let admin = &call.state.admin;
    admin.delete_series(matcher_sets, interval).await?;
    Ok(Outcome::Empty)
}

pub(super) async fn clean_tombstones(call: Call) -> Result<Outcome, ApiError> {
    check_enabled(&call)?;
    call.state.admin.clean_tombstones().await?;
    Ok(Outcome::Empty)
}

pub(super) async fn snapshot(call: Call) -> Result<Outcome, ApiError> {
    check_enabled(&call)?;
    let text = call.form.value("skip_head");
    let skip_head = match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => {
            let reason = format!(
                "unable to parse boolean: strconv.ParseBool: parsing {text:?}: invalid syntax"
            );
            return Err(invalid("skip_head", &reason));
        }
    };
    let name = call.state.admin.snapshot(skip_head).await?;
    Ok(Reply::with(|out| {
        out.extend_from_slice(b"{\"name\":");
        push_text(out, &name);
        out.push(b'}');
    }))
}

fn check_enabled(call: &Call) -> Result<(), ApiError> {
    if call.state.settings.has_admin {
        return Ok(());
    }
    Err(ApiError::new(ErrorType::Unavailable, "admin APIs disabled"))
}
