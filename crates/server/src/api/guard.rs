//! What every request passes: a name check against rebound names and foreign pages, a time
//! limit, and headers that tell browsers what a page may do.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Context, Problem};
use crate::limits::REQUEST_TIMEOUT;

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The names by which the server may be addressed: loopback ones, and those of the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Takes names (without ports) besides the loopback ones.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Tells whether a `Host` header, with or without port, names this server.
    #[must_use]
    pub fn allow(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        matches!(name.as_str(), "localhost" | "127.0.0.1" | "[::1]") || self.names.contains(&name)
    }

    fn allow_origin(&self, origin: &str) -> bool {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|host| self.allow(host))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

/// Refuses requests that a page of another site, or a rebound name, has a browser send.
pub(super) async fn hosts(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    match examine(&context.hosts, request.method(), request.headers(), request.uri().host()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn examine(
    hosts: &Hosts,
    method: &Method,
    headers: &HeaderMap,
    uri_host: Option<&str>,
) -> Result<(), Problem> {
    let forbidden = |detail| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or(""));
    let Some(host) = text(header::HOST).or(uri_host) else {
        return Err(Problem::bad_request("the request names no host"));
    };
    if !hosts.allow(host) {
        return forbidden(
            "the server is not known by this name; use localhost, or add the name to `allowed_hosts` in the settings",
        );
    }
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    // A page at one port of a permitted name is still another site than this server.
    if text(header::ORIGIN).is_some_and(|origin| !hosts.allow_origin(origin)) {
        return forbidden("requests of pages from other sites are refused");
    }
    if text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site") {
        return forbidden("requests of pages from other sites are refused");
    }
    let json = text(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or("").trim();
        kind.eq_ignore_ascii_case("application/json")
    });
    if json {
        Ok(())
    } else {
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the header `content-type: application/json`",
        ))
    }
}

/// Answers with a problem when a request takes too long.
pub(super) async fn timeout(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "the request took too long; ask for less at once";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
        }
    }
}

/// Adds the headers that bound what a browser does with an answer.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(headers: &[(&'static str, &'static str)]) -> Result<(), u16> {
        let hosts = Hosts::new(["Pumps.example".to_owned()]);
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, HeaderValue::from_static(value));
        }
        examine(&hosts, &Method::POST, &map, None)
            .map_err(|problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn only_known_names_are_served() {
        let hosts = Hosts::new(["Pumps.example".to_owned()]);
        for good in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]:8080",
            "[::1]",
            "pumps.EXAMPLE:80",
        ] {
            assert!(hosts.allow(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "127.0.0.2",
            "::1",
        ] {
            assert!(!hosts.allow(bad), "{bad}");
        }
    }

    #[test]
    fn posts_from_other_sites_are_refused() {
        const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
        const HOST: (&str, &str) = ("host", "localhost:8080");
        assert_eq!(post(&[HOST, JSON]), Ok(()));
        assert_eq!(post(&[HOST, JSON, ("origin", "http://localhost:8080")]), Ok(()));
        assert_eq!(post(&[HOST, JSON, ("origin", "https://pumps.example")]), Ok(()));
        assert_eq!(post(&[HOST, JSON, ("origin", "http://evil.example")]), Err(403));
        assert_eq!(post(&[HOST, JSON, ("origin", "null")]), Err(403));
        assert_eq!(post(&[HOST, JSON, ("sec-fetch-site", "cross-site")]), Err(403));
        assert_eq!(post(&[("host", "evil.example"), JSON]), Err(403));
        assert_eq!(post(&[JSON]), Err(400));
        assert_eq!(post(&[HOST]), Err(415));
        assert_eq!(post(&[HOST, ("content-type", "text/plain")]), Err(415));
    }
}
