//! Server-sent events (HTML Living Standard, section 9.2).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};

use super::Context;
use super::problem::Problem;
use super::readings::{Query, only, repeated};
use crate::access::{Access, Principal};
use crate::clock::now_ms;
use crate::limits::{LIVE_ACCESS_CHECK, LIVE_CLIENTS_MAX, LIVE_DEVICES_MAX, LIVE_KEEP_ALIVE};
use crate::live::{Next, Watcher};

struct Client {
    watcher: Watcher,
    devices: Vec<String>,
    ending: tokio::sync::watch::Receiver<bool>,
    access: Arc<Access>,
    principal: Principal,
    check: tokio::time::Interval,
}

/// Streams what happens: events `readings`, `alarm`, `device`, and `lagged` when the client was
/// too slow and should fetch anew.
#[utoipa::path(get, path = "/api/v1/live",
    params(("device" = Option<Vec<String>>, Query, description = "Only events of this device; may be repeated")),
    responses((status = 200, content_type = "text/event-stream", body = String),
    (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn live(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    only(&pairs, &["device"])?;
    let devices: Vec<String> = repeated(&pairs, "device").map(str::to_owned).collect();
    if devices.len() > LIVE_DEVICES_MAX {
        let detail = format!("at most {LIVE_DEVICES_MAX} devices; leave them out for all");
        return Err(Problem::bad_request(detail));
    }
    let watcher = context.hub.watch().ok_or_else(|| {
        let detail = format!("{LIVE_CLIENTS_MAX} clients watch already; close one");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let state = Client {
        watcher,
        devices,
        ending: context.ending.clone(),
        access: context.access.clone(),
        principal,
        check: tokio::time::interval(LIVE_ACCESS_CHECK),
    };
    let events = stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((Ok(event), state))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(LIVE_KEEP_ALIVE)))
}

impl Client {
    /// Waits for the next event that this client asked for; `None` when the server ends, or who
    /// watches may not any more.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let next = tokio::select! {
                next = self.watcher.next() => Some(next?),
                _ = self.check.tick() => None,
                _ = self.ending.wait_for(|&ending| ending) => return None,
            };
            let Some(next) = next else {
                if self.access.holds(&self.principal, now_ms()).await {
                    continue;
                }
                return None;
            };
            match next {
                Next::Missed(missed) => {
                    let data = format!(r#"{{"missed":{missed}}}"#);
                    return Some(Event::default().event("lagged").data(data));
                }
                Next::Event(event) => {
                    if self.devices.is_empty()
                        || self.devices.iter().any(|id| **id == *event.device)
                    {
                        return Some(Event::default().event(event.name).data(&*event.data));
                    }
                }
            }
        }
    }
}
