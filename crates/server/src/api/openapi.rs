//! The description of the HTTP interface, OpenAPI 3.1.

use axum::Json;
use utoipa::OpenApi;

use super::{alarms, devices, live, metrics, readings, status};

/// Everything that has a description.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Stonechat",
        description = "Devices, readings and alarms of a Stonechat server. Times are unix milliseconds; errors are problems by RFC 9457."
    ),
    paths(
        status::status,
        status::live,
        status::ready,
        devices::list,
        devices::one,
        readings::readings,
        alarms::list,
        alarms::one,
        alarms::acknowledge,
        alarms::clear,
        live::live,
        metrics::metrics,
        openapi,
    ),
    components(schemas(devices::Device))
)]
struct Description;

/// Returns the description of the HTTP interface.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// Gives the description of the HTTP interface.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
