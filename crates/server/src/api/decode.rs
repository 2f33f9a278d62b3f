//! `POST /decode`: latent vectors, as the service that it replaces took and answered them.
//!
//! `{"latent_vector": [0.5, -1.25]}` gives
//! `{"reconstructed_temperature_celsius": 21.37, "received_latent_vector": [0.5, -1.25]}`; what is wrong
//! gives 400 and `{"error": "…"}`. New are the device and its token, by which the decoder is found. Latent
//! vectors are compressed, not encrypted: whoever sees one can read the measurement.
#![allow(unused_qualifications, reason = "the macros of utoipa write longer paths than needed")]

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::error;
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::ingest::{Denied, bearer, device_of};
use super::readings::Query;
use crate::access::Principal;
use crate::codec::latent::Decoder;

/// Whose decoder it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DecodeQuestion {
    /// The device.
    device: String,
}

/// A latent vector.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body, which is read by hand for its old messages")]
pub(super) struct LatentVector {
    /// The code.
    latent_vector: Vec<f32>,
}

/// What a code was made of.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct Reconstructed {
    /// In °C, to two decimals, where the decoder gives one number.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconstructed_temperature_celsius: Option<f64>,
    /// In the features' own units, to two decimals, where it gives several.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconstructed: Option<Vec<f64>>,
    /// The code as it came.
    received_latent_vector: Vec<Value>,
}

/// What is wrong, in the old shape.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct DecodeError {
    /// In words.
    error: String,
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(DecodeError { error: error.into() })).into_response()
}

/// Decodes the latent vector of a device.
#[utoipa::path(post, path = "/decode", params(DecodeQuestion), request_body = LatentVector,
    responses((status = 200, body = Reconstructed), (status = 400, body = DecodeError), (status = 401, body = DecodeError),
    (status = 404, body = DecodeError)))]
pub(super) async fn decode(
    State(context): State<Context>,
    Extension(principal): Extension<Principal>,
    question: Result<Query<DecodeQuestion>, super::Problem>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let unproven = || {
        let detail = "No such device, or not its token: authorization: Bearer TOKEN";
        let refused = refuse(StatusCode::UNAUTHORIZED, detail);
        ([(header::WWW_AUTHENTICATE, "Bearer")], refused).into_response()
    };
    let Ok(Query(DecodeQuestion { device })) = question else {
        let is_nobody = matches!(principal, Principal::Anonymous) && bearer(&headers).is_none();
        let unnamed = || refuse(StatusCode::BAD_REQUEST, "Name the device: /decode?device=ID");
        return if is_nobody { unproven() } else { unnamed() };
    };
    let id = match device_of(&context, &principal, &headers, &device).await {
        Ok(id) => id,
        Err(Denied::Unproven) => return unproven(),
        Err(Denied::Unknown) => return refuse(StatusCode::NOT_FOUND, "There is no such device"),
    };
    let entry = context.directory.device(id.as_str());
    let Some(name) = entry.and_then(|entry| entry.decoder.clone()) else {
        return refuse(StatusCode::NOT_FOUND, "The device has no decoder");
    };
    let decoders = context.decoders.clone();
    let found = tokio::task::spawn_blocking(move || decoders.find(&name)).await;
    let decoder = match found {
        Ok(Ok(decoder)) => decoder,
        Ok(Err(reason)) => {
            error!(device, %reason, "no decoder");
            let detail = "The device's decoder cannot be used; the server's log says why";
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, detail);
        }
        Err(_) => return refuse(StatusCode::SERVICE_UNAVAILABLE, "The server is shutting down"),
    };
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), rejection.body_text()),
    };
    match reconstruct(&decoder, &body) {
        Ok(reconstructed) => Json(reconstructed).into_response(),
        Err(error) => refuse(StatusCode::BAD_REQUEST, error),
    }
}

/// Reads a body and decodes its vector.
fn reconstruct(decoder: &Decoder, body: &[u8]) -> Result<Reconstructed, String> {
    if body.trim_ascii().is_empty() {
        return Err("Missing JSON body".to_owned());
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| format!("Invalid JSON body: {error}"))?;
    let vector = value.get("latent_vector").ok_or("Missing 'latent_vector' in the JSON body")?;
    let wanted = decoder.code_len();
    let Value::Array(received) = vector else {
        return Err(format!("'latent_vector' must be a list of {wanted} numbers"));
    };
    if received.len() != wanted {
        let found = received.len();
        return Err(format!("'latent_vector' must be a list of {wanted} numbers, not {found}"));
    }
    let mut code = Vec::with_capacity(wanted);
    for number in received {
        let number = number.as_f64().ok_or("'latent_vector' must hold numbers only")?;
        code.push(number as f32);
    }
    let values = decoder.decode(&code).ok_or("'latent_vector' must hold finite numbers only")?;
    let rounded: Vec<f64> = values.iter().map(|value| two_decimals(*value)).collect();
    let one = if let &[only] = rounded.as_slice() { Some(only) } else { None };
    Ok(Reconstructed {
        reconstructed_temperature_celsius: one,
        reconstructed: one.is_none().then_some(rounded),
        received_latent_vector: received.clone(),
    })
}

/// Rounds as Python's `round(x, 2)` does: the decimal nearest to the binary number.
fn two_decimals(value: f32) -> f64 {
    let text = format!("{:.2}", f64::from(value));
    // What was just written is a number.
    text.parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_python_does() {
        // python3 -c "import struct; [print(round(struct.unpack('f', struct.pack('f', x))[0], 2)) for x in (…)]"
        for (value, expected) in
            [(21.375, 21.38), (21.365, 21.36), (0.125, 0.12), (2.675, 2.67), (50.0, 50.0)]
        {
            assert_eq!(two_decimals(value), expected, "{value}");
        }
    }
}
