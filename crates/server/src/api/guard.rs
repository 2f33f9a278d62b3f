//! What every request passes: a name check against rebound names and foreign pages, the rights and
//! the pace that the table of [`super::access`] demands, a time limit, and headers that tell
//! browsers what a page may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

use super::access::{Found, Frequency, Row, find};
use super::{Context, Problem};
use crate::access::{
    API_TOKEN_PREFIX, AccessError, Act, Ending, Need, Origin, Principal, SourceNet,
};
use crate::clock::now_ms;
use crate::identity::listener::TlsListener;
use crate::limits::{PACE_OF_STRANGERS, REQUEST_TIMEOUT};

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
    proxies: Vec<IpAddr>,
}

/// What is known of the connection by which a request came; each listener adds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end.
    pub address: SocketAddr,
    /// Whether it is encrypted.
    pub https: bool,
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { address: *stream.remote_addr(), https: false }
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self { address: *stream.remote_addr(), https: true }
    }
}

impl Hosts {
    /// Takes names (without ports) besides the loopback ones.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { names, proxies: Vec::new() }
    }

    /// Believes these addresses when they say for whom they ask.
    #[must_use]
    pub fn behind(self, proxies: Vec<IpAddr>) -> Self {
        Self { proxies, ..self }
    }

    /// Finds out where a request comes from.
    fn origin(&self, peer: Option<Peer>, headers: &HeaderMap) -> Origin {
        let Some(peer) = peer else { return Origin::default() };
        let direct = Origin { address: peer.address.ip().to_canonical(), https: peer.https };
        if !self.proxies.contains(&direct.address) {
            return direct;
        }
        let text = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let hops = text("x-forwarded-for").flat_map(|hops| hops.split(','));
        // The nearest proxy adds at the end; what stands before the first foreign one is hearsay.
        let hops: Vec<&str> = hops.collect();
        let hops = hops.iter().rev().map_while(|hop| hop.trim().parse::<IpAddr>().ok());
        let mut last = direct.address;
        for hop in hops {
            last = hop.to_canonical();
            if !self.proxies.contains(&last) {
                break;
            }
        }
        let https =
            text("x-forwarded-proto").next_back().is_some_and(|proto| proto.trim() == "https");
        Origin { address: last, https: https || peer.https }
    }

    /// Tells whether a request that changes something with a session's rights was made by a page
    /// of this server: the cookie alone does not say so, as a page at another port of the same
    /// name counts as the same site.
    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        match (text("sec-fetch-site"), text("origin")) {
            (Some(site), _) => site == "same-origin",
            (None, Some(origin)) => {
                let rest = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
                let Some(authority) = rest else { return false };
                let host = text("host").unwrap_or("");
                authority.eq_ignore_ascii_case(host)
                    || self.names.contains(&without_port(authority).to_ascii_lowercase())
            }
            (None, None) => false,
        }
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
    let row = row_of(&request);
    let by_device = matches!(row, Some(Found::Row(Row { need: Need::Ingest, .. })));
    let (method, headers) = (request.method(), request.headers());
    match examine(&context.hosts, method, headers, request.uri().host(), by_device) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Finds the row of the route that a request takes; the dashboard's files have none.
fn row_of(request: &Request) -> Option<Found> {
    let path = request.extensions().get::<MatchedPath>()?;
    Some(find(request.method(), path.as_str()))
}

fn examine(
    hosts: &Hosts,
    method: &Method,
    headers: &HeaderMap,
    uri_host: Option<&str>,
    by_device: bool,
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
    // Devices have no cookie that a page could abuse, and many ways to write.
    if by_device {
        return Ok(());
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

/// Lets a request through if who makes it may, and not too often; notes what people do.
pub(super) async fn access(
    State(context): State<Context>,
    mut request: Request,
    next: Next,
) -> Response {
    let row = match row_of(&request) {
        None => return next.run(request).await,
        Some(Found::Row(row)) => row,
        // The route answers what is wrong; it has no work for this method.
        Some(Found::OtherMethod) => return super::problem::wrong_method().await.into_response(),
        Some(Found::Nothing) => {
            let unknown = super::problem::NO_SUCH_ROUTE;
            let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
            if path == Some(unknown) {
                return next.run(request).await;
            }
            let detail = "nobody said who may use this route";
            return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
        }
    };
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
    let origin = context.hosts.origin(peer, request.headers());
    let principal = match admit(&context, row, &origin, request.headers()).await {
        Ok(principal) => principal,
        Err(problem) => return problem.into_response(),
    };
    let path = request.uri().path().to_owned();
    request.extensions_mut().insert(principal.clone());
    request.extensions_mut().insert(origin);
    let response = next.run(request).await;
    note(&context, row, &principal, &origin, &path, response.status()).await;
    response
}

/// Finds out who makes a request and whether he may.
async fn admit(
    context: &Context,
    row: &'static Row,
    origin: &Origin,
    headers: &HeaderMap,
) -> Result<Principal, Problem> {
    if row.frequency == Frequency::Free {
        return Ok(Principal::Anonymous);
    }
    let (access, now_ms) = (&context.access, now_ms());
    let source = SourceNet::from(origin.address);
    let limited = |limited| Problem::from(AccessError::Limited(limited));
    if let Some(pace) = row.frequency.of_source() {
        access.pace(&(row.frequency, source), pace, now_ms).map_err(limited)?;
    }
    // Whoever comes without what is needed gets no further, and that not often.
    let stranger = |detail: &str| {
        count(&access.counters().unauthorised);
        let paced = access.pace(&("stranger", source), PACE_OF_STRANGERS, now_ms).map_err(limited);
        paced.map_or_else(|problem| problem, |()| Problem::new(StatusCode::UNAUTHORIZED, detail))
    };
    let Some(principal) = identify(context, origin, headers, now_ms).await? else {
        return Err(stranger("this API token is unknown, revoked or expired"));
    };
    let on_loopback = context.metrics_on_loopback && origin.address.is_loopback();
    let open = row.need == Need::Ingest && principal == Principal::Anonymous
        || row.need == Need::Metrics && on_loopback;
    if !open && !principal.may(row.need) {
        if principal == Principal::Anonymous {
            return Err(stranger("sign in, or send an API token: `authorization: Bearer sct_…`"));
        }
        count(&access.counters().forbidden);
        let act = row.act.unwrap_or(row.path);
        if !row.only_reads() {
            let actor = principal.actor(origin);
            let act = Act { actor: &actor, act, subject: row.method, ending: Ending::Refused };
            access.note_in_vain(&act, now_ms).await?;
        }
        return Err(forbidden(row, &principal));
    }
    let one = match &principal {
        Principal::Anonymous => None,
        Principal::Person(person) => Some(person.session.as_str()),
        Principal::Program(program) => Some(program.token.as_str()),
    };
    if let (Some(one), Some(pace)) = (one, row.frequency.of_one()) {
        access.pace(&(row.frequency, one), pace, now_ms).map_err(limited)?;
    }
    let by_cookie = matches!(principal, Principal::Person(_));
    if by_cookie && !row.only_reads() && !context.hosts.is_own_page(headers) {
        let detail = "a session changes something only from the dashboard; scripts use API tokens";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(principal)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn forbidden(row: &Row, principal: &Principal) -> Problem {
    let detail = match (principal, row.need.role(), row.need.scope()) {
        (Principal::Person(person), Some(role), _) => {
            format!("this needs the role {role}; {} is {}", person.account, person.role)
        }
        (Principal::Program(_), _, Some(scope)) => {
            format!("this needs a token with the scope {scope}")
        }
        (Principal::Program(_), _, None) => "this is for people, not for tokens".to_owned(),
        _ => "this is for devices and gateways, by token".to_owned(),
    };
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// Finds out who makes a request: by API token, else by session. `None` stands for an API token
/// that does not hold; a session that does not is as good as none.
async fn identify(
    context: &Context,
    origin: &Origin,
    headers: &HeaderMap,
    now_ms: i64,
) -> Result<Option<Principal>, AccessError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let value = value.to_str().unwrap_or("");
        let token = value.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        // Another token may be a device's, which its route checks.
        let Some((_, token)) = token.filter(|(_, token)| token.starts_with(API_TOKEN_PREFIX))
        else {
            return Ok(Some(Principal::Anonymous));
        };
        let program = context.access.program(token.trim(), now_ms).await?;
        return Ok(program.map(Principal::Program));
    }
    let name = cookie_name(origin, headers);
    let Some(credential) = cookie(headers, &name) else { return Ok(Some(Principal::Anonymous)) };
    let person = context.access.person(credential, now_ms).await?;
    Ok(Some(person.map_or(Principal::Anonymous, Principal::Person)))
}

/// Names the cookie of a session. Browsers share cookies among the ports of one name, so the port
/// is part of it; over HTTPS its prefix keeps other hosts and unencrypted answers from setting it.
pub(super) fn cookie_name(origin: &Origin, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let port = &host[without_port(host).len()..];
    let port = port.trim_start_matches(':');
    let prefix = if origin.https { "__Host-" } else { "" };
    if port.is_empty() { format!("{prefix}stonechat") } else { format!("{prefix}stonechat-{port}") }
}

/// Finds a cookie.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Notes what a person or program did, and what an admin tried in vain.
async fn note(
    context: &Context,
    row: &Row,
    principal: &Principal,
    origin: &Origin,
    path: &str,
    status: StatusCode,
) {
    let done = status.is_success();
    let act = match row.act {
        Some(act) => act,
        None if row.need == Need::Admin && !row.only_reads() && !done => row.path,
        None => return,
    };
    let actor = principal.actor(origin);
    let ending = if done { Ending::Done } else { Ending::Failed };
    let act = Act { actor: &actor, act, subject: path, ending };
    let noted = match ending {
        Ending::Done => context.access.audit().note(&act).await,
        _ => context.access.note_in_vain(&act, now_ms()).await,
    };
    if let Err(error) = noted {
        tracing::error!(%error, act = act.act, subject = path, "an act could not be noted");
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
        examine(&hosts, &Method::POST, &map, None, false)
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
