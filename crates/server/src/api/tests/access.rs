//! Who may do what, and how browsers are held to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;

use super::super::Peer;
use super::super::access::ROUTES;
use super::*;
use crate::access::{Credential, Principal, Role};
use crate::limits::{PACE_OF_STRANGERS, SET_UP_LINK_LIFE_MS, SIGN_IN_FAILURES_FREE};

/// Who asks: nobody, the sessions of a viewer, operator and admin, and tokens with one scope each.
const CALLERS: [&str; 9] =
    ["nobody", "Viewer", "Operator", "Admin", "read", "operate", "admin", "ingest", "metrics"];

/// Who may use each route, written by hand: the table of the code is held against this one.
const EVERYBODY: &str = "nobody Viewer Operator Admin read operate admin ingest metrics";
const PEOPLE: &str = "Viewer Operator Admin";
const READERS: &str = "Viewer Operator Admin read operate admin";
const OPERATORS: &str = "Operator Admin operate admin";
const ADMINS: &str = "Admin admin";
const MEASURERS: &str = "Viewer Operator Admin read operate admin metrics";
/// Gateways; and devices by their own tokens, for which the routes ask themselves.
const SENDERS: &str = "ingest";

const MATRIX: &[(&str, &str)] = &[
    ("GET /health/live", EVERYBODY),
    ("GET /health/ready", EVERYBODY),
    ("GET /metrics", MEASURERS),
    ("GET /api/v1/session", EVERYBODY),
    ("POST /api/v1/session", EVERYBODY),
    ("DELETE /api/v1/session", PEOPLE),
    ("POST /api/v1/session/link", EVERYBODY),
    ("POST /api/v1/set-up", EVERYBODY),
    ("GET /api/v1/account", PEOPLE),
    ("POST /api/v1/account/password", PEOPLE),
    ("GET /api/v1/account/sessions", PEOPLE),
    ("DELETE /api/v1/account/sessions/{id}", PEOPLE),
    ("GET /api/v1/accounts", ADMINS),
    ("POST /api/v1/accounts", ADMINS),
    ("PATCH /api/v1/accounts/{name}", ADMINS),
    ("DELETE /api/v1/accounts/{name}", ADMINS),
    ("GET /api/v1/tokens", ADMINS),
    ("POST /api/v1/tokens", ADMINS),
    ("DELETE /api/v1/tokens/{id}", ADMINS),
    ("GET /api/v1/audit", ADMINS),
    ("GET /api/v1/audit/verification", ADMINS),
    ("POST /api/v1/enrol", EVERYBODY),
    ("GET /api/v1/openapi.json", READERS),
    ("GET /api/v1/status", READERS),
    ("GET /api/v1/live", READERS),
    ("GET /api/v1/devices", READERS),
    ("GET /api/v1/devices/{id}", READERS),
    ("GET /api/v1/devices/{id}/readings", READERS),
    ("POST /api/v1/devices/{id}/readings", SENDERS),
    ("POST /decode", SENDERS),
    ("POST /api/v1/devices/{id}/commands", OPERATORS),
    ("GET /api/v1/alarms", READERS),
    ("GET /api/v1/alarms/{id}", READERS),
    ("POST /api/v1/alarms/{id}/acknowledge", OPERATORS),
    ("POST /api/v1/alarms/{id}/clear", OPERATORS),
];

/// What a caller sends to be known.
#[derive(Clone)]
enum Known {
    Not,
    Session(Credential),
    Token(String),
}

impl Known {
    fn mark(&self, request: &mut Request<Body>) {
        let headers = request.headers_mut();
        match self {
            Self::Not => {}
            Self::Session(credential) => {
                let cookie = format!("stonechat-8080={}", credential.reveal());
                headers.insert(header::COOKIE, cookie.parse().expect("legal"));
                headers.insert("sec-fetch-site", "same-origin".parse().expect("legal"));
            }
            Self::Token(token) => {
                let value = format!("Bearer {token}").parse().expect("legal");
                headers.insert(header::AUTHORIZATION, value);
            }
        }
    }
}

fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:8080")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_owned()))
        .expect("legal")
}

impl Site {
    async fn known(&self, caller: &str) -> Known {
        let access = &self.context.access;
        if let Ok(scope) = caller.parse::<Scope>() {
            return Known::Token(
                token_of(access, &format!("{scope}-{}", now_ms()), &[scope]).await,
            );
        }
        match caller.to_lowercase().parse::<Role>() {
            Ok(role) => Known::Session(access.session_for_test(role.as_str(), role).await),
            Err(_) => Known::Not,
        }
    }

    async fn ask(&self, known: &Known, method: &str, path: &str, body: &str) -> Response<Body> {
        let mut request = request(method, path, body);
        known.mark(&mut request);
        self.send_bare(request).await
    }

    /// Forgets all rates.
    fn rested(&mut self) {
        self.context.access = Arc::new(Access::new(self.context.store.clone()));
    }
}

fn cookie_of(response: &Response<Body>) -> String {
    response.headers()[header::SET_COOKIE].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn every_route_demands_what_the_matrix_says() {
    let mut site = site().await;
    site.context.access.session_for_test("second-admin", Role::Admin).await;
    let document = serde_json::to_value(document()).expect("JSON");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let matrix: BTreeMap<&str, &str> = MATRIX.iter().copied().collect();
    let listed: BTreeSet<String> = matrix.keys().map(|route| (*route).to_owned()).collect();
    assert_eq!(described, listed, "routes of the description, and of the matrix");
    let table = ROUTES.iter().map(|row| format!("{} {}", row.method, row.path));
    assert_eq!(table.collect::<BTreeSet<_>>(), listed, "routes of the table, and of the matrix");
    for (route, allowed) in MATRIX {
        site.rested();
        let (method, path) = route.split_once(' ').expect("method and path");
        let path = path.replace("{id}", "0").replace("{name}", "nobody-at-all");
        let allowed: Vec<&str> = allowed.split(' ').collect();
        for caller in CALLERS {
            // Signing out ends a session: each caller comes anew.
            let known = site.known(caller).await;
            let status = site.ask(&known, method, &path, "{}").await.status();
            let expected = if allowed.contains(&caller) {
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
                assert!(!refused, "{route} as {caller}: {status}");
                assert_ne!(status, StatusCode::TOO_MANY_REQUESTS, "{route} as {caller}");
                continue;
            } else if caller == "nobody" {
                StatusCode::UNAUTHORIZED
            } else {
                StatusCode::FORBIDDEN
            };
            assert_eq!(status, expected, "{route} as {caller}");
        }
    }
}

#[tokio::test]
async fn the_description_says_what_each_route_needs() {
    let document = serde_json::to_value(document()).expect("JSON");
    let schemes = document["components"]["securitySchemes"].as_object().expect("schemes");
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["device", "session", "token"]);
    for (route, allowed) in MATRIX {
        let (method, path) = route.split_once(' ').expect("method and path");
        let security = &document["paths"][path][method.to_lowercase()]["security"];
        let expected = match *allowed {
            EVERYBODY => json!([]),
            PEOPLE => json!([{ "session": ["viewer"] }]),
            READERS => json!([{ "session": ["viewer"] }, { "token": ["read"] }]),
            OPERATORS => json!([{ "session": ["operator"] }, { "token": ["operate"] }]),
            ADMINS => json!([{ "session": ["admin"] }, { "token": ["admin"] }]),
            MEASURERS => json!([{ "session": ["viewer"] }, { "token": ["metrics"] }]),
            _ => json!([{ "token": ["ingest"] }, { "device": [] }]),
        };
        assert_eq!(*security, expected, "{route}");
    }
}

#[tokio::test]
async fn measurements_are_open_to_this_computer_only_if_the_settings_say_so() {
    let mut site = site().await;
    let from = |site: &Site, address: &str| {
        let mut request = request("GET", "/metrics", "");
        let address: SocketAddr = address.parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(Peer { address, https: false }));
        let context = site.context.clone();
        async move { router(context).oneshot(request).await.expect("routes do not fail").status() }
    };
    assert_eq!(from(&site, "127.0.0.1:9").await, StatusCode::UNAUTHORIZED);
    site.context.metrics_on_loopback = true;
    assert_eq!(from(&site, "127.0.0.1:9").await, StatusCode::OK);
    assert_eq!(from(&site, "[::1]:9").await, StatusCode::OK);
    assert_eq!(from(&site, "192.0.2.7:9").await, StatusCode::UNAUTHORIZED);
}

const PASSWORD: &str = "correct horse battery";

/// Sets up the first account by its link.
async fn set_up(site: &Site) -> Response<Body> {
    let link = site.context.access.offer_set_up(now_ms()).await.expect("stored").expect("a link");
    let body = json!({ "link": link.reveal(), "name": "Anna", "password": PASSWORD });
    site.ask(&Known::Not, "POST", "/api/v1/set-up", &body.to_string()).await
}

fn session_of(cookie: &str) -> Known {
    let value = cookie.split_once('=').expect("a value").1;
    let value = value.split(';').next().expect("a value");
    Known::Session(Credential::parse(value).expect("a credential"))
}

async fn sign_in(site: &Site, known: &Known, name: &str, password: &str) -> Response<Body> {
    let body = json!({ "name": name, "password": password }).to_string();
    site.ask(known, "POST", "/api/v1/session", &body).await
}

#[tokio::test]
async fn the_set_up_link_makes_one_admin_once() {
    let site = site().await;
    let access = &site.context.access;
    let (_, state) = site.get("/api/v1/session").await;
    assert_eq!(
        state,
        json!({ "account": null, "role": null, "expires_ms": null, "set_up_needed": true })
    );
    let old = access.offer_set_up(now_ms()).await.expect("stored").expect("a link");
    let link = access.offer_set_up(now_ms()).await.expect("stored").expect("another link");
    let try_with = |link: String, name: &str, password: &str| {
        let body = json!({ "link": link, "name": name, "password": password }).to_string();
        let site = &site;
        async move { site.ask(&Known::Not, "POST", "/api/v1/set-up", &body).await }
    };
    let text = link.reveal().to_owned();
    for wrong in [old.reveal(), "", &text[1..], &"0".repeat(80)] {
        let status = try_with(wrong.to_owned(), "anna", PASSWORD).await.status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{wrong}");
    }
    for (name, password) in [("anna", "too short"), ("an na", PASSWORD), ("", PASSWORD)] {
        let status = try_with(text.clone(), name, password).await.status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name:?} {password:?}");
    }
    let made = try_with(text.clone(), "Anna", PASSWORD).await;
    assert_eq!(made.status(), StatusCode::OK);
    let session = session_of(&cookie_of(&made));
    assert_eq!(json_of(made).await["role"], "admin");
    assert_eq!(site.ask(&session, "GET", "/api/v1/accounts", "").await.status(), StatusCode::OK);
    let again = try_with(text, "bert", PASSWORD).await;
    assert_eq!(again.status(), StatusCode::FORBIDDEN, "replayed");
    assert!(access.offer_set_up(now_ms()).await.expect("stored").is_none(), "there is an account");
    assert_eq!(access.accounts().await.expect("stored").len(), 1);
}

#[tokio::test]
async fn a_set_up_link_expires() {
    let site = site().await;
    let before_ms = now_ms() - SET_UP_LINK_LIFE_MS;
    let link = site.context.access.offer_set_up(before_ms).await.expect("stored").expect("a link");
    let body = json!({ "link": link.reveal(), "name": "anna", "password": PASSWORD }).to_string();
    let answer = site.ask(&Known::Not, "POST", "/api/v1/set-up", &body).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
    let site = site().await;
    let plain = cookie_of(&set_up(&site).await);
    let parts: Vec<&str> = plain.split("; ").collect();
    assert!(parts[0].starts_with("stonechat-8080="), "{plain}");
    assert_eq!(parts[0].len(), "stonechat-8080=".len() + 80);
    assert_eq!(parts[1..], ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"]);

    let body = json!({ "name": "anna", "password": PASSWORD }).to_string();
    let mut over_tls = request("POST", "/api/v1/session", &body);
    let address = "192.0.2.7:9".parse().expect("an address");
    over_tls.extensions_mut().insert(ConnectInfo(Peer { address, https: true }));
    let secure = cookie_of(&site.send_bare(over_tls).await);
    assert!(secure.starts_with("__Host-stonechat-8080="), "{secure}");
    assert!(secure.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{secure}");
    assert!(!secure.contains("Domain"), "{secure}");

    let session = session_of(&plain);
    let out = site.ask(&session, "DELETE", "/api/v1/session", "").await;
    assert!(cookie_of(&out).starts_with("stonechat-8080=; Path=/; Max-Age=0;"));
    let after = site.ask(&session, "GET", "/api/v1/account", "").await;
    assert_eq!(after.status(), StatusCode::UNAUTHORIZED, "signed out");
}

#[tokio::test]
async fn signing_in_draws_a_new_session_and_ends_the_earlier_one() {
    let site = site().await;
    let first = session_of(&cookie_of(&set_up(&site).await));
    // A session that somebody foists on a browser beforehand is never taken over.
    let foisted = Known::Session(Credential::draw().expect("random"));
    let answer = sign_in(&site, &foisted, "anna", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let second = session_of(&cookie_of(&answer));
    let status = |known: Known| {
        let site = &site;
        async move { site.ask(&known, "GET", "/api/v1/account", "").await.status() }
    };
    assert_eq!(status(foisted).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(first.clone()).await, StatusCode::OK);
    assert_eq!(status(second).await, StatusCode::OK);
    let third = session_of(&cookie_of(&sign_in(&site, &first, "anna", PASSWORD).await));
    assert_eq!(status(first).await, StatusCode::UNAUTHORIZED, "the browser has another now");
    assert_eq!(status(third).await, StatusCode::OK);
}

#[tokio::test]
async fn a_session_changes_something_only_from_the_dashboard_itself() {
    let site = site().await;
    let Known::Session(credential) = site.known("Operator").await else { unreachable!() };
    site.with_device("pump").await;
    let act = |marks: &'static [(&'static str, &'static str)]| {
        let mut request = request("POST", "/api/v1/alarms/1/acknowledge", "{}");
        let cookie = format!("other=1; stonechat-8080={}", credential.reveal());
        request.headers_mut().insert(header::COOKIE, cookie.parse().expect("legal"));
        for (name, value) in marks {
            request.headers_mut().insert(*name, value.parse().expect("legal"));
        }
        let context = site.context.clone();
        async move { router(context).oneshot(request).await.expect("routes do not fail").status() }
    };
    const OWN: &str = "http://localhost:8080";
    for (marks, expected) in [
        (&[][..], 403),
        (&[("origin", "http://localhost:3000")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", "http://evil.example")], 403),
        (&[("sec-fetch-site", "same-site"), ("origin", OWN)], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "none")], 403),
        (&[("origin", OWN)], 200),
        (&[("sec-fetch-site", "same-origin"), ("origin", OWN)], 200),
    ] {
        let status = act(marks).await.as_u16();
        // The second time it is acknowledged already.
        let status = if status == 409 { 200 } else { status };
        assert_eq!(status, expected, "{marks:?}");
    }
}

#[tokio::test]
async fn an_unknown_account_looks_and_costs_like_a_wrong_password() {
    let site = site().await;
    set_up(&site).await;
    sign_in(&site, &Known::Not, "nobody", "warms up the decoy").await;
    let mut answers = Vec::new();
    for name in ["anna", "nobody", "not/a name", ""] {
        let before = site.context.access.password_checks();
        let answer = sign_in(&site, &Known::Not, name, "wrong horse battery").await;
        let headers: Vec<String> =
            answer.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        let status = answer.status();
        let cost = site.context.access.password_checks() - before;
        answers.push((status, headers, json_of(answer).await, cost));
    }
    assert_eq!(answers[0].0, StatusCode::FORBIDDEN);
    assert_eq!(answers[0].3, 1, "one hash is computed");
    for answer in &answers[1..] {
        assert_eq!(*answer, answers[0]);
    }
}

#[tokio::test]
async fn wrong_passwords_back_off_and_say_when_to_come_again() {
    let site = site().await;
    set_up(&site).await;
    for name in ["anna", "nobody"] {
        for _ in 0..SIGN_IN_FAILURES_FREE {
            let answer = sign_in(&site, &Known::Not, name, "wrong horse battery").await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}");
        }
        let before = site.context.access.password_checks();
        let answer = sign_in(&site, &Known::Not, name, PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{name}, even if right");
        assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(site.context.access.password_checks(), before, "nothing is computed");
    }
    let metrics = site.text("/metrics").await;
    assert!(metrics.contains("\nstonechat_sign_ins_limited_total 2\n"), "{metrics}");
    assert!(metrics.contains("\nstonechat_sign_ins_refused_total 10\n"), "{metrics}");
}

impl Site {
    async fn text(&self, path: &str) -> String {
        let response = self.send(request("GET", path, "")).await;
        let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("whole");
        String::from_utf8(bytes.to_vec()).expect("text")
    }
}

#[tokio::test]
async fn a_flood_of_strangers_is_told_when_to_come_again() {
    let site = site().await;
    let (mut refused, mut limited) = (0, 0);
    for _ in 0..PACE_OF_STRANGERS.burst + 10 {
        let guess = Known::Token(format!("sct_{}", Credential::draw().expect("random").reveal()));
        let answer = site.ask(&guess, "GET", "/api/v1/status", "").await;
        match answer.status() {
            StatusCode::UNAUTHORIZED => refused += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                limited += 1;
                assert!(answer.headers().contains_key(header::RETRY_AFTER));
            }
            other => panic!("{other}"),
        }
    }
    assert!(
        refused >= PACE_OF_STRANGERS.burst && limited > 0,
        "{refused} refused, {limited} limited"
    );
    let token = Known::Token(site.token.clone());
    let status = site.ask(&token, "GET", "/api/v1/status", "").await.status();
    assert_eq!(status, StatusCode::OK, "who has a token is not affected");
}

#[tokio::test]
async fn revoked_and_expired_tokens_and_lost_roles_hold_no_longer_at_once() {
    let site = site().await;
    let access = &site.context.access;
    let status = |known: Known, path: &'static str| {
        let site = &site;
        async move { site.ask(&known, "GET", path, "").await.status().as_u16() }
    };
    let admin = site.known("Admin").await;
    let body = json!({ "name": "grafana", "scopes": ["read", "admin"], "days": 1 }).to_string();
    let made = json_of(site.ask(&admin, "POST", "/api/v1/tokens", &body).await).await;
    assert_eq!(made["made_by"], "admin");
    let token = Known::Token(made["token"].as_str().expect("text").to_owned());
    assert_eq!(status(token.clone(), "/api/v1/accounts").await, 200);
    // What the token makes stands and falls with the admin, too.
    let body = json!({ "name": "child", "scopes": ["read"] }).to_string();
    let child = json_of(site.ask(&token, "POST", "/api/v1/tokens", &body).await).await;
    let child = Known::Token(child["token"].as_str().expect("text").to_owned());
    assert_eq!(status(child.clone(), "/api/v1/status").await, 200);
    // Nothing of it is found in what is listed.
    let listed = site.text("/api/v1/tokens").await;
    assert!(!listed.contains(made["token"].as_str().expect("text")), "{listed}");
    assert!(!listed.contains("hash"), "{listed}");

    access.session_for_test("other", Role::Admin).await;
    let server = Actor::server();
    access.set_role(&server, "admin", Role::Viewer).await.expect("another admin is left");
    assert_eq!(status(token.clone(), "/api/v1/status").await, 401, "its maker may not hand it out");
    assert_eq!(status(admin.clone(), "/api/v1/accounts").await, 403);
    assert_eq!(status(admin.clone(), "/api/v1/status").await, 200);
    access.set_role(&server, "admin", Role::Admin).await.expect("back");
    assert_eq!(status(token.clone(), "/api/v1/accounts").await, 200);
    access.revoke_token(&server, "grafana").await.expect("there");
    assert_eq!(status(token, "/api/v1/status").await, 401, "revoked");

    access.remove_account(&server, "admin").await.expect("another admin is left");
    assert_eq!(status(admin, "/api/v1/status").await, 401, "removed");
    assert_eq!(status(child.clone(), "/api/v1/status").await, 401, "its maker is gone");
    site.known("Admin").await;
    assert_eq!(status(child, "/api/v1/status").await, 401, "another account of the same name");

    let new =
        NewToken { name: "old".into(), scopes: vec![Scope::Read], expires_ms: Some(now_ms()) };
    let (old, _) = access.add_token(&server, None, new, now_ms()).await.expect("new");
    assert_eq!(status(Known::Token(old), "/api/v1/status").await, 401, "expired");
}

#[tokio::test]
async fn the_live_stream_ends_with_the_session() {
    let site = site().await;
    let viewer = site.known("Viewer").await;
    let response = site.ask(&viewer, "GET", "/api/v1/live", "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body().into_data_stream();
    let out = site.ask(&viewer, "DELETE", "/api/v1/session", "").await;
    assert_eq!(out.status(), StatusCode::OK);
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), body.next()).await;
    assert!(end.expect("it ends by itself").is_none());
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions_only() {
    let site = site().await;
    let (one, two) = (site.known("Viewer").await, site.known("Viewer").await);
    let other = site.known("Operator").await;
    let list = |known: Known| {
        let site = &site;
        async move {
            let answer = site.ask(&known, "GET", "/api/v1/account/sessions", "").await;
            json_of(answer).await["sessions"].as_array().expect("list").clone()
        }
    };
    let own = list(one.clone()).await;
    assert_eq!(own.len(), 2);
    assert_eq!((&own[0]["current"], &own[1]["current"]), (&json!(true), &json!(false)));
    let theirs = list(other).await;
    let path = |session: &Value| {
        format!("/api/v1/account/sessions/{}", session["id"].as_str().expect("text"))
    };
    let status = site.ask(&one, "DELETE", &path(&theirs[0]), "").await.status();
    assert_eq!(status, StatusCode::NOT_FOUND, "another's");
    let status = site.ask(&one, "DELETE", &path(&own[1]), "").await.status();
    assert_eq!(status, StatusCode::NO_CONTENT);
    let status = site.ask(&two, "GET", "/api/v1/account", "").await.status();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(list(one).await.len(), 1);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let site = site().await;
    let here = session_of(&cookie_of(&set_up(&site).await));
    let elsewhere = session_of(&cookie_of(&sign_in(&site, &Known::Not, "anna", PASSWORD).await));
    let change = |present: &str, new: &str| {
        let body = json!({ "present": present, "new": new }).to_string();
        let (site, here) = (&site, here.clone());
        async move { site.ask(&here, "POST", "/api/v1/account/password", &body).await.status() }
    };
    assert_eq!(change("wrong horse battery", "a brand new password").await, StatusCode::FORBIDDEN);
    assert_eq!(change(PASSWORD, "short").await, StatusCode::BAD_REQUEST);
    assert_eq!(change(PASSWORD, "a brand new password").await, StatusCode::OK);
    let status = |known: Known| {
        let site = &site;
        async move { site.ask(&known, "GET", "/api/v1/account", "").await.status() }
    };
    assert_eq!(status(here.clone()).await, StatusCode::OK);
    assert_eq!(status(elsewhere).await, StatusCode::UNAUTHORIZED);
    let old = sign_in(&site, &Known::Not, "anna", PASSWORD).await.status();
    assert_eq!(old, StatusCode::FORBIDDEN);
    let new = sign_in(&site, &Known::Not, "anna", "a brand new password").await.status();
    assert_eq!(new, StatusCode::OK);
}

#[tokio::test]
async fn the_last_admin_stays() {
    let site = site().await;
    let admin = site.known("Admin").await;
    let status = |method: &'static str, body: &'static str| {
        let (site, admin) = (&site, admin.clone());
        async move { site.ask(&admin, method, "/api/v1/accounts/admin", body).await.status() }
    };
    assert_eq!(status("DELETE", "").await, StatusCode::CONFLICT);
    assert_eq!(status("PATCH", r#"{"role":"viewer"}"#).await, StatusCode::CONFLICT);
    let body = json!({ "name": "bert", "role": "admin", "password": PASSWORD }).to_string();
    let made = site.ask(&admin, "POST", "/api/v1/accounts", &body).await.status();
    assert_eq!(made, StatusCode::CREATED);
    let again = site.ask(&admin, "POST", "/api/v1/accounts", &body).await.status();
    assert_eq!(again, StatusCode::CONFLICT);
    assert_eq!(status("PATCH", r#"{"role":"viewer"}"#).await, StatusCode::OK);
    assert_eq!(status("DELETE", "").await, StatusCode::FORBIDDEN, "a viewer now");
}

#[tokio::test]
async fn what_people_do_is_in_the_audit_log_without_secrets() {
    let site = site().await;
    site.with_device("pump").await;
    let made = set_up(&site).await;
    let cookie = cookie_of(&made);
    let anna = session_of(&cookie);
    sign_in(&site, &Known::Not, "anna", "wrong horse battery").await;
    sign_in(&site, &Known::Not, "hunter2-typed-here", "wrong horse battery").await;
    let body = json!({ "name": "bert", "role": "viewer", "password": "another long password" });
    site.ask(&anna, "POST", "/api/v1/accounts", &body.to_string()).await;
    site.ask(&anna, "POST", "/api/v1/accounts", &body.to_string()).await;
    site.ask(&anna, "POST", "/api/v1/alarms/1/acknowledge", r#"{"note":"seen"}"#).await;
    let viewer = site.known("Viewer").await;
    site.ask(&viewer, "POST", "/api/v1/alarms/1/clear", "{}").await;
    let answer = json_of(site.ask(&anna, "GET", "/api/v1/audit", "").await).await;
    let mut lines: Vec<String> = answer["entries"]
        .as_array()
        .expect("list")
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().expect("text").to_owned();
            [text("who"), text("from"), text("act"), text("subject"), text("ending")].join("|")
        })
        .collect();
    lines.reverse();
    let expected = [
        "set-up link|127.0.0.1|account.add|anna as admin|done",
        "anna|127.0.0.1|session.begin||done",
        "anna|127.0.0.1|session.begin||refused",
        "unknown account|127.0.0.1|session.begin||refused",
        "anna|127.0.0.1|account.add|bert as viewer|done",
        "anna|127.0.0.1|/api/v1/accounts|/api/v1/accounts|failed",
        "anna|127.0.0.1|alarm.acknowledge|/api/v1/alarms/1/acknowledge|done",
        "server|local|account.add|viewer as viewer|done",
        "server|local|session.begin||done",
        "viewer|127.0.0.1|alarm.clear|POST|refused",
    ];
    // The token with which the test site was made comes first.
    assert_eq!(lines[1..], expected);
    let Known::Session(session) = &anna else { unreachable!() };
    let whole = answer.to_string();
    for secret in
        [PASSWORD, "another long", "hunter2", "wrong horse", session.reveal(), &site.token]
    {
        assert!(!whole.contains(secret), "{secret}");
    }
    assert_eq!(site.get("/api/v1/audit/verification").await.1["intact"], true);
}

#[tokio::test]
async fn proxies_are_believed_only_if_the_settings_name_them() {
    let mut site = site().await;
    let proxy: std::net::IpAddr = "192.0.2.1".parse().expect("an address");
    let sign_in_from = |site: &Site, peer: &str, forwarded: &'static str| {
        let mut request = request("POST", "/api/v1/session", r#"{"name":"a","password":"b"}"#);
        let address = format!("{peer}:9").parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(Peer { address, https: false }));
        let value = forwarded.parse().expect("legal");
        request.headers_mut().insert("x-forwarded-for", value);
        let context = site.context.clone();
        async move {
            router(context.clone()).oneshot(request).await.expect("routes do not fail");
            context.access.audit().list(None, 1).await.expect("readable")[0].from.clone()
        }
    };
    let spoofed = "203.0.113.9, 198.51.100.4";
    assert_eq!(sign_in_from(&site, "192.0.2.1", spoofed).await, "192.0.2.1");
    site.context.hosts = Arc::new(Hosts::default().behind(vec![proxy]));
    assert_eq!(sign_in_from(&site, "192.0.2.1", spoofed).await, "198.51.100.4");
    assert_eq!(sign_in_from(&site, "192.0.2.2", spoofed).await, "192.0.2.2");
    assert_eq!(sign_in_from(&site, "192.0.2.1", "nonsense").await, "192.0.2.1");
}

#[test]
fn a_principal_may_only_what_he_is() {
    use crate::access::Need;
    assert!(Principal::Anonymous.may(Need::Nothing));
    for need in [Need::Person, Need::Read, Need::Operate, Need::Admin, Need::Metrics, Need::Ingest]
    {
        assert!(!Principal::Anonymous.may(need), "{need:?}");
    }
}
