//! What every request passes: the right host, a page of ours as its origin, a session, an end in time, and headers that leave a browser no
//! room for anything else.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::timeout;

use crate::App;
use crate::config::Site;
use crate::page;

/// Longest answer, streams aside, which begin at once: above the patience of every question behind a page.
const ANSWER: Duration = Duration::from_secs(20);

/// What a browser may do with our pages: load our script and our style, ask us, and nothing else. Markup from strings goes through the
/// one policy that the script names.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types nachos";

/// On every answer. `same-origin` and not `no-referrer`: under the latter browsers send `Origin: null` with our own forms, and we could not
/// tell them from a stranger's; to other sites both say nothing.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// The value of the session cookie of a request, for handlers that end or watch the session.
#[derive(Debug, Clone)]
pub(crate) struct Cookie(pub(crate) String);

/// The middleware around all routes.
pub(crate) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let answer = match admit(&app, &mut request) {
        Err(refused) => *refused,
        Ok(()) => match timeout(ANSWER, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => page::trouble(StatusCode::GATEWAY_TIMEOUT, "This takes too long. Try it with more filters."),
        },
    };
    dress(answer)
}

fn admit(app: &App, request: &mut Request) -> Result<(), Box<Response>> {
    let headers = request.headers();
    if !is_our_host(&app.site, request.uri().host(), headers) {
        let text = "This address is not the one that these pages are served under (public_url).";
        return Err(Box::new((StatusCode::MISDIRECTED_REQUEST, text).into_response()));
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && !is_our_page(&app.site, headers) {
        return Err(Box::new((StatusCode::FORBIDDEN, "This did not come from a page of ours.").into_response()));
    }
    let path = request.uri().path();
    let open = path == "/login" || path.starts_with("/assets/");
    let cookie = cookie(&app.site, headers);
    match app.session(&cookie) {
        Some(session) => {
            request.extensions_mut().insert(session);
            request.extensions_mut().insert(Cookie(cookie));
            Ok(())
        }
        None if open => Ok(()),
        None => Err(Box::new(page::login::closed())),
    }
}

/// A browser that was led here under another name (DNS rebinding) says so in `Host`.
fn is_our_host(site: &Site, absolute: Option<&str>, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let one = hosts.next().is_none();
    one && absolute.is_none() && host.is_some_and(|host| host.eq_ignore_ascii_case(&site.host))
}

/// Whether a form was sent by a page of ours. `Sec-Fetch-Site` is sent to TLS and loopback addresses by every browser of today, `Origin` with
/// every POST; who sends neither is no browser and has no cookie that a browser guards.
fn is_our_page(site: &Site, headers: &HeaderMap) -> bool {
    let said = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let fetch_site = HeaderName::from_static("sec-fetch-site");
    let same_site = said(&fetch_site).is_none_or(|from| from == "same-origin");
    same_site && said(&header::ORIGIN) == Some(site.origin.as_str())
}

/// The session cookie's value; empty if there is none.
fn cookie(site: &Site, headers: &HeaderMap) -> String {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == site.cookie()).map(|(_, value)| value.to_owned()).unwrap_or_default()
}

fn dress(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        let mut all = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            all.append(name, value);
        }
        all
    }

    fn site() -> Site {
        Site::parse("https://nachos.example").unwrap()
    }

    #[test]
    fn only_our_own_name_is_served() {
        let ours = |host| is_our_host(&site(), None, &headers(&[("host", host)]));
        assert!(ours("nachos.example") && ours("Nachos.Example"));
        assert!(!ours("evil.example") && !ours("nachos.example:8080") && !ours("127.0.0.1"));
        assert!(!is_our_host(&site(), None, &HeaderMap::new()));
        assert!(!is_our_host(&site(), Some("nachos.example"), &headers(&[("host", "nachos.example")])));
        assert!(!is_our_host(&site(), None, &headers(&[("host", "nachos.example"), ("host", "evil")])));
    }

    #[test]
    fn only_our_own_pages_may_send_forms() {
        let ours = |pairs: &[_]| is_our_page(&site(), &headers(pairs));
        assert!(ours(&[("origin", "https://nachos.example"), ("sec-fetch-site", "same-origin")]));
        assert!(ours(&[("origin", "https://nachos.example")]));
        assert!(!ours(&[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]));
        assert!(!ours(&[("origin", "https://nachos.example"), ("sec-fetch-site", "same-site")]));
        assert!(!ours(&[("origin", "null")]) && !ours(&[]));
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let found = |line| cookie(&site(), &headers(&[("cookie", line)]));
        assert_eq!(found("a=b; __Host-nachos=secret; c=d"), "secret");
        assert_eq!(found("nachos=secret"), "");
        assert_eq!(found("x__Host-nachos=secret"), "");
    }
}
