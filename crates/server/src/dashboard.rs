//! The dashboard's files, built into the program.

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::api::Problem;

/// Path and content of each file.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Shown when the program was built without the dashboard.
const ABSENT: &[u8] =
    b"<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Stonechat</title>\
<h1>Stonechat</h1><p>This server was built without its dashboard. To build both, run \
<code>cargo xtask demo</code> in the repository. The interface for programs is described at \
<a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p>";

const INDEX: &str = "/index.html";
/// Names of files in this folder carry a hash of their content.
const HASHED_FOLDER: &str = "/assets/";

/// Serves a file of the dashboard; a path without a dot is one of its pages.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the dashboard is only to be read")
            .into_response();
    }
    let path = uri.path();
    let page = path == INDEX || !path.rsplit('/').next().unwrap_or("").contains('.');
    let Some((name, content)) = find(if page { INDEX } else { path }) else {
        return Problem::new(StatusCode::NOT_FOUND, format!("there is no file {path}"))
            .into_response();
    };
    let tag = entity_tag(content);
    let cache = if name.starts_with(HASHED_FOLDER) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, cache.to_owned())];
    if known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, content_type(name))], content).into_response()
}

fn find(path: &str) -> Option<(&'static str, &'static [u8])> {
    match FILES.iter().find(|(name, _)| *name == path) {
        Some(&found) => Some(found),
        None if path == INDEX => Some((INDEX, ABSENT)),
        None => None,
    }
}

fn entity_tag(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &'static str, tag: Option<&str>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(tag) = tag {
            headers.insert(header::IF_NONE_MATCH, tag.parse().expect("legal"));
        }
        serve(Method::GET, Uri::from_static(path), headers).await
    }

    #[tokio::test]
    async fn pages_get_the_index_and_missing_files_do_not() {
        for page in ["/", "/devices/pump-1", "/alarms", "/index.html"] {
            let response = get(page, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{page}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        }
        for missing in ["/assets/none.js", "/favicon.none", "/../Cargo.toml"] {
            assert_eq!(get(missing, None).await.status(), StatusCode::NOT_FOUND, "{missing}");
        }
    }

    #[tokio::test]
    async fn an_unchanged_page_is_not_sent_again() {
        let first = get("/", None).await;
        let tag = first.headers()[header::ETAG].to_str().expect("text").to_owned();
        assert_eq!(get("/", Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(get("/", Some("\"other\"")).await.status(), StatusCode::OK);
    }
}
