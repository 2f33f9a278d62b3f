//! The description of the HTTP interface, OpenAPI 3.1.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use super::access::{ROUTES, Row};
use super::{
    accounts, alarms, audit, decode, devices, enrol, ingest, live, metrics, readings, sign_in,
    status, tokens,
};
use crate::access::Need;

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
        enrol::enrol,
        readings::readings,
        ingest::take,
        ingest::command,
        decode::decode,
        alarms::list,
        alarms::one,
        alarms::acknowledge,
        alarms::clear,
        live::live,
        sign_in::session,
        sign_in::sign_in,
        sign_in::sign_in_by_link,
        sign_in::set_up,
        sign_in::sign_out,
        accounts::own,
        accounts::change_password,
        accounts::sessions,
        accounts::end_session,
        accounts::list,
        accounts::add,
        accounts::change,
        accounts::remove,
        tokens::list,
        tokens::add,
        tokens::revoke,
        audit::list,
        audit::verify,
        metrics::metrics,
        openapi,
    ),
    components(schemas(devices::Device))
)]
struct Description;

/// Returns the description of the HTTP interface.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Description::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("session", session_scheme());
    components.add_security_scheme("token", token_scheme(
        "An API token with the scope that the route names. Made by an admin, or by `stonechat token add`.",
    ));
    components.add_security_scheme("device", token_scheme(
        "The token of the device that the route is about, which sends readings for itself only.",
    ));
    for row in ROUTES {
        let item = document.paths.paths.get_mut(row.path);
        let operation = item.and_then(|item| match row.method {
            "GET" => item.get.as_mut(),
            "POST" => item.post.as_mut(),
            "PUT" => item.put.as_mut(),
            "PATCH" => item.patch.as_mut(),
            "DELETE" => item.delete.as_mut(),
            _ => None,
        });
        if let Some(operation) = operation {
            demand(operation, row);
        }
    }
    document
}

fn session_scheme() -> SecurityScheme {
    let about = "What `POST /api/v1/session` gives a browser. The name ends with the port, and \
                 begins with `__Host-` over HTTPS. It changes something only together with \
                 `sec-fetch-site: same-origin` or an `origin` that is the server's.";
    SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description("stonechat-8080", about)))
}

fn token_scheme(about: &str) -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build(),
    )
}

/// Says what a route needs: one of these ways, each with its least role or scope.
fn demand(operation: &mut Operation, row: &Row) {
    let mut ways = Vec::new();
    if row.need != Need::Nothing {
        let role = row.need.role().map(|role| SecurityRequirement::new("session", [role.as_str()]));
        let scope = row.need.scope();
        let token = scope.map(|scope| SecurityRequirement::new("token", [scope.as_str()]));
        ways.extend(role.into_iter().chain(token));
    }
    if row.need == Need::Ingest {
        ways.push(SecurityRequirement::new("device", Vec::<String>::new()));
    }
    // An empty list says that nothing is needed.
    operation.security = Some(ways);
}

/// Gives the description of the HTTP interface.
#[utoipa::path(get, path = "/api/v1/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
