//! The timeline in a real browser, on the real services: what people see, what strangers do not, and what hostile text cannot do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bus::config::AuditConfig;
use bus::{Bus, StreamSizes};
use proto::Component;
use proto::audit::{Fact, Filter, Query, Scope, StoredRecord};
use proto::content::{Content, ContentMode};
use proto::seal::{LoginLink, LoginRequest};
use reqwest::header::HeaderMap;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use system_tests::chromium::Chromium;
use system_tests::platform::{repository, tools_dir};
use system_tests::server::free_port;
use system_tests::{Person, Platform};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;
use uuid::Uuid;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a denial in these tests says.
const REASON: &str = "The clock is for staff <b>only</b>";

/// The platform with its web pages behind a wire that can be cut.
struct Stage {
    platform: Platform,
    cli: Bus,
    wire: Wire,
    url: String,
}

impl Stage {
    async fn set() -> Self {
        let mut platform = Platform::start_only(&[Component::Audit], &StreamSizes::default()).await;
        let (inside, wire) = (free_port(), Wire::lay().await);
        wire.lead_to(([127, 0, 0, 1], inside).into());
        let url = format!("http://{}", wire.address);
        let settings = format!("listen = '127.0.0.1:{inside}'\npublic_url = '{url}'");
        platform.run(Component::ChannelWeb, &settings).await;
        let cli = platform.server.connect(Component::Cli).await;
        Self { platform, cli, wire, url }
    }

    /// With everything that a turn needs, and a policy that denies the clock.
    async fn with_turns() -> (Self, Person) {
        let mut stage = Self::set().await;
        for component in [Component::ToolsWasm, Component::LlmProxy, Component::Gateway] {
            stage.platform.run(component, "").await;
        }
        let policies = stage.platform.server.dir().join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        for file in std::fs::read_dir(repository().join("policy/policies")).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), policies.join(file.file_name())).unwrap();
        }
        let rule = format!(
            "@id(\"clock-for-staff\")\n@reason(\"{REASON}\")\nforbid (principal, action == Nachos::Action::\"call_tool\", \
             resource == Nachos::Tool::\"clock\")\nwhen {{ context.arguments has zone && context.arguments.zone like \"*Tokyo*\" }};\n"
        );
        std::fs::write(policies.join("90-clock.cedar"), rule).unwrap();
        let keys = stage.platform.server.keys(Component::Policy);
        let settings = format!(
            "policies = '{}'\ntools = ['{}']\npermit_key = '{keys}/permit.key'\norigins = '{keys}/origins.json'",
            policies.display(),
            tools_dir().display(),
            keys = keys.display()
        );
        let config = stage.platform.server.config(Component::Policy);
        let bus = Bus::connect(Component::Policy, &config, AuditConfig::default()).await.unwrap();
        policy::serve(bus, bus::config::parse(&settings).unwrap().1).await.unwrap();
        let person = stage.platform.person("ann").await;
        (stage, person)
    }

    async fn link(&self) -> LoginLink {
        let request = LoginRequest { v: 1, user: "ann".to_owned() };
        self.cli.request(Bus::new_trace(), &request).await.unwrap()
    }

    /// A browser that is logged in and shows the timeline.
    async fn browser(&self) -> Chromium {
        let mut browser = Chromium::start().await;
        browser.size(1280, 900).await;
        browser.open(&self.link().await.url).await;
        browser.follow("document.querySelector('button.main').click()").await;
        browser.until("document.querySelector('#live')?.dataset.state === 'on'").await;
        browser
    }

    /// Somebody says something, with nothing left out.
    async fn say(&self, text: &str) {
        let text = Content::of_text(text, ContentMode::Full);
        let fact = Fact::MessageReceived { event: Uuid::new_v4().to_string(), conversation: "c".into(), text };
        let scope = Scope { principal: Some("cli/ann".into()), channel: Some("cli".into()), ..Scope::default() };
        self.cli.record(Some(Bus::new_trace()), scope, fact).await.unwrap();
    }

    /// A record with a text of its own, as small as there is.
    async fn note(&self, text: &str) {
        let fact = Fact::SessionOpened { conversation: text.to_owned() };
        self.cli.record(Some(Bus::new_trace()), Scope::default(), fact).await.unwrap();
    }

    /// The records that match, once there are so many.
    async fn records(&self, filter: Filter, at_least: usize) -> Vec<StoredRecord> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let query = Query { v: 1, filter: filter.clone(), after: None, limit: 500, newest: false };
            let page = self.cli.request(Bus::new_trace(), &query).await.unwrap();
            if page.records.len() >= at_least {
                return page.records;
            }
            assert!(Instant::now() < give_up, "{} of {at_least} records", page.records.len());
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn of_type(&self, kind: &str, at_least: usize) -> Vec<StoredRecord> {
        self.records(Filter { types: vec![kind.into()], ..Filter::default() }, at_least).await
    }
}

/// A wire between the browser and the service.
struct Wire {
    address: SocketAddr,
    target: Arc<std::sync::Mutex<Option<SocketAddr>>>,
    down: Arc<AtomicBool>,
    cut: Arc<Notify>,
}

impl Wire {
    async fn lay() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            address: listener.local_addr().unwrap(),
            target: Arc::default(),
            down: Arc::default(),
            cut: Arc::default(),
        };
        let (target, down, cut) = (wire.target.clone(), wire.down.clone(), wire.cut.clone());
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let target = target.lock().unwrap().unwrap();
                let (down, cut) = (down.clone(), cut.clone());
                tokio::spawn(async move {
                    let cut = cut.notified();
                    if down.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        wire
    }

    fn lead_to(&self, address: SocketAddr) {
        *self.target.lock().unwrap() = Some(address);
    }

    fn cut(&self) {
        self.down.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    fn mend(&self) {
        self.down.store(false, Ordering::SeqCst);
    }
}

/// Where pictures for people go, if somebody wants them.
fn picture(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var("NACHOS_PICTURES").ok()?);
    Some(folder.join(format!("{name}.png")))
}

async fn show(browser: &mut Chromium, name: &str, whole: bool) {
    if let Some(file) = picture(name) {
        sleep(Duration::from_secs(2)).await;
        browser.picture(&file, whole).await;
    }
}

/// Nothing that a page told was an error or a violation of its rules.
async fn quiet(browser: &mut Chromium) {
    let told = browser.told().await;
    assert!(told.is_empty(), "{told:#?}");
}

/// Numbers of the records in the list, as they stand there.
async fn listed(browser: &mut Chromium) -> Vec<u64> {
    let seqs = browser.eval("[...document.querySelectorAll('#records .rec')].map(r => Number(r.dataset.seq))").await;
    seqs.as_array().unwrap().iter().map(|seq| seq.as_u64().unwrap()).collect()
}

async fn text(browser: &mut Chromium) -> String {
    browser.eval("document.body.innerText").await.as_str().unwrap().to_owned()
}

fn client() -> Client {
    let tls = rustls::crypto::ring::default_provider().install_default();
    drop(tls);
    Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing() {
    let stage = Stage::set().await;
    stage.say("a secret of the house").await;
    let (client, url) = (client(), &stage.url);
    for path in
        ["/", "/events?after=0", "/marks?r=1.x", "/record/1", "/turn/00000000-0000-0000-0000-000000000001", "/x"]
    {
        let answer = client.get(format!("{url}{path}")).header("cookie", "nachos=guess").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(!answer.text().await.unwrap().contains("secret of"), "{path}");
    }
    let long = client.get(format!("{url}/")).header("x-long", "x".repeat(20_000)).send().await.unwrap();
    assert_eq!(long.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let link = stage.link().await.url;
    for (host, status) in [("evil.example", 421), ("127.0.0.1", 421), ("localhost:8320", 421)] {
        let answer = client.get(&link).header("host", host).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{host}");
    }
    let answer = client.get(&link).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let rules = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(rules.starts_with("default-src 'none'; script-src 'self';") && !rules.contains("unsafe"), "{rules}");
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("cache-control", "no-store"), ("x-frame-options", "DENY")]
    {
        assert_eq!(answer.headers()[name], value);
    }
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_one_person_in_once_and_every_use_is_recorded() {
    let stage = Stage::set().await;
    let (client, url) = (client(), &stage.url);
    let link = stage.link().await;
    let token = link.url.split_once("token=").unwrap().1.to_owned();
    let left = link.expires.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((200..=300).contains(&left), "{left} s");
    // Programs that look at links do not use them up.
    for _ in 0..3 {
        assert_eq!(client.get(&link.url).send().await.unwrap().status(), StatusCode::OK);
    }
    let post = |token: &str, headers: &[(&'static str, &str)]| {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        client.post(format!("{url}/login")).headers(all).body(format!("token={token}")).send()
    };
    let ours = [("origin", url.as_str()), ("sec-fetch-site", "same-origin")];
    let foreign = [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(post(&token, &foreign).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(post(&token, &[]).await.unwrap().status(), StatusCode::FORBIDDEN);
    let welcome = post(&token, &ours).await.unwrap();
    assert_eq!(welcome.status(), StatusCode::SEE_OTHER);
    let cookie = welcome.headers()["set-cookie"].to_str().unwrap().to_owned();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert_eq!(post(&token, &ours).await.unwrap().status(), StatusCode::FORBIDDEN, "once");
    assert_eq!(post("guess", &ours).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(post(&"x".repeat(9000), &ours).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);

    let logins = stage.of_type("web.login", 3).await;
    let said: Vec<_> =
        logins.iter().map(|r| (r.component.as_str(), r.record["data"]["outcome"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            ("channel-web", "ok"),
            ("channel-web", "refused: the link was used already"),
            ("channel-web", "refused: there is no such link"),
        ]
    );
    assert_eq!(
        (logins[0].record["data"]["user"].as_str(), logins[1].record["data"]["user"].as_str()),
        (Some("ann"), Some("ann"))
    );

    let cookie = cookie.split(';').next().unwrap();
    let home = client.get(format!("{url}/")).header("cookie", cookie).send().await.unwrap();
    assert_eq!(home.status(), StatusCode::OK);
    let out = client.post(format!("{url}/logout")).header("cookie", cookie).header("origin", url).send().await.unwrap();
    assert_eq!(out.status(), StatusCode::OK);
    let after = client.get(format!("{url}/")).header("cookie", cookie).send().await.unwrap();
    assert_eq!(after.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_record_appears_filters_work_and_a_turn_tells_why_it_was_denied() {
    let (stage, mut person) = Stage::with_turns().await;
    let mut browser = stage.browser().await;
    browser.eval("window.same = true").await;
    person.ask("c", "what time is it in Tokyo?").await;
    browser.until("[...document.querySelectorAll('.rec')].some(r => r.innerText.includes('turn.finished'))").await;
    assert_eq!(browser.eval("window.same").await, true, "no reload");
    let seqs = listed(&mut browser).await;
    assert!(seqs.is_sorted_by(|newer, older| newer > older), "{seqs:?}");
    let denied = browser.eval("document.querySelectorAll('.rec[data-tone=bad]').length").await;
    assert!(denied.as_u64().unwrap() >= 1);
    show(&mut browser, "timeline-light", false).await;
    let load = browser.eval("performance.getEntriesByType('navigation')[0].loadEventEnd").await;
    println!("page load {load} ms");

    // A filter is an address.
    browser.follow("document.querySelector('.questions a[href*=\"outcome=deny\"]').click()").await;
    assert_eq!(listed(&mut browser).await.len(), 1);
    assert!(text(&mut browser).await.contains(REASON));
    browser.until("document.querySelector('#live')?.dataset.state === 'on'").await;
    stage.say("this is not denied").await;
    stage.of_type("message.received", 1).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(listed(&mut browser).await.len(), 1, "what does not match does not appear");

    // The story of the turn.
    browser.follow("document.querySelector('a.turn').click()").await;
    let story = text(&mut browser).await;
    for words in [REASON, "clock-for-staff", "The turn ended", "use the tool clock"] {
        assert!(story.contains(words), "{words} is missing in {story}");
    }
    show(&mut browser, "turn-light", true).await;
    browser.prefer("dark").await;
    show(&mut browser, "turn-dark", true).await;
    browser.follow("document.querySelector('.rec[data-tone=bad] a.seq').click()").await;
    assert!(text(&mut browser).await.contains("\"type\": \"policy.decided\""));
    show(&mut browser, "record-dark", true).await;
    browser.prefer("light").await;
    show(&mut browser, "record-light", true).await;
    quiet(&mut browser).await;

    // A filter that makes no sense does not look like peace.
    browser.open(&format!("{}/?type=tol.*&since=never", stage.url)).await;
    let wrong = text(&mut browser).await;
    assert!(wrong.contains("no records of type") && wrong.contains("is no time"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_text() {
    let stage = Stage::set().await;
    let hostile = [
        "<script>window.owned = 1</script>",
        "<img src=x onerror=\"window.owned = 1\">",
        "\"><svg onload=window.owned=1>",
        "a\nevent: over\ndata: x\n\nb",
        "rm \u{202e}cod.exe\u{200b}",
    ];
    stage.say(hostile[0]).await;
    stage.of_type("message.received", 1).await;
    let mut browser = stage.browser().await;
    for text in &hostile[1..] {
        stage.say(text).await;
    }
    browser.until("document.querySelectorAll('.rec .quote').length >= 5").await;
    let shown = text(&mut browser).await;
    for words in [hostile[0], hostile[1], hostile[2], "U+202E", "U+200B"] {
        assert!(shown.contains(words), "{words} is not in {shown}");
    }
    assert_eq!(browser.eval("window.owned === undefined").await, true);
    assert_eq!(browser.eval("document.querySelectorAll('main script, .rec img, .rec svg').length").await, 0);
    for record in stage.of_type("message.received", 5).await {
        browser.open(&format!("{}/record/{}", stage.url, record.seq)).await;
        let page = text(&mut browser).await;
        assert!(page.contains("message.received") && !page.contains("salt\""), "{page}");
        assert_eq!(browser.eval("window.owned === undefined").await, true);
    }
    let query = "%22%3E%3Cscript%3Ewindow.owned%3D1%3C/script%3E";
    browser.open(&format!("{}/?tool={query}&type={query}&principal={query}", stage.url)).await;
    assert_eq!(browser.eval("window.owned === undefined").await, true);
    // And if there were a hole after all: the page's rules hold scripts off.
    quiet(&mut browser).await;
    let inline = "const s = document.createElement('div'); let refused = 0; try { s.innerHTML = '<b>x</b>' } catch { refused = 1 } refused";
    assert_eq!(browser.eval(inline).await, 1, "markup from strings is refused outside the policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_come_from_proofs_and_a_forged_index_is_found_out() {
    let stage = Stage::set().await;
    stage.note("paid 10 to ann").await;
    stage.say("hello").await;
    let heard = stage.of_type("message.received", 1).await;
    let mut browser = stage.browser().await;
    stage.say("hello again").await;
    browser.until("document.querySelectorAll('.rec .mark[data-mark=verified]').length >= 4").await;
    assert_eq!(browser.eval("document.querySelectorAll('.rec .mark:not([data-mark=verified])').length").await, 0);
    browser.until("document.querySelector('#seal').innerText.includes('Sealed up to #')").await;
    show(&mut browser, "timeline-verified", false).await;
    browser.open(&format!("{}/record/{}", stage.url, heard[0].seq)).await;
    assert_eq!(browser.eval("document.querySelector('.verdict').dataset.mark").await, "verified");
    let page = text(&mut browser).await;
    assert!(page.contains("It matches the digest that was sealed"), "{page}");
    show(&mut browser, "record-verified", true).await;

    // Somebody who owns the audit service's volume edits its index.
    let index = stage.platform.server.dir().join("audit-data/index.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(index);
    let index = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
    let forged = sqlx::query("UPDATE records SET raw = replace(raw, 'paid 10', 'paid 99')").execute(&index).await;
    forged.unwrap();
    let note = stage.of_type("session.opened", 1).await;
    assert_eq!(note[0].record["data"]["conversation"], "paid 99 to ann", "the index is forged");
    browser.open(&stage.url).await;
    browser
        .until("document.querySelector('.rec .mark[data-mark=failed]')?.title.includes('differs from what was sealed')")
        .await;
    assert_eq!(browser.eval("document.querySelectorAll('.rec .mark[data-mark=failed]').length").await, 1);
    assert!(text(&mut browser).await.contains("1 record on this page is not what was sealed"));
    show(&mut browser, "timeline-forged", false).await;
    browser.open(&format!("{}/record/{}", stage.url, note[0].seq)).await;
    assert_eq!(browser.eval("document.querySelector('.verdict').dataset.mark").await, "failed");
    show(&mut browser, "record-forged", true).await;
    quiet(&mut browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_goes_on_without_gap_or_duplicate() {
    let stage = Stage::set().await;
    let mut browser = stage.browser().await;
    let rows = "[...document.querySelectorAll('.rec .what')].map(q => q.innerText.trim()).filter(t => t.startsWith('conversation n'))";
    for n in 0..5 {
        stage.note(&format!("n{n}")).await;
    }
    browser.until(&format!("{rows}.length === 5")).await;
    for round in 1..=3 {
        stage.wire.cut();
        for n in 0..20 {
            stage.note(&format!("n{}", 5 + (round - 1) * 25 + n)).await;
        }
        browser.until("document.querySelector('#live').dataset.state === 'off'").await;
        stage.wire.mend();
        for n in 20..25 {
            stage.note(&format!("n{}", 5 + (round - 1) * 25 + n)).await;
        }
        browser.until(&format!("{rows}.length >= {}", 5 + round * 25)).await;
    }
    sleep(Duration::from_secs(1)).await;
    let shown = browser.eval(rows).await;
    let expected: Vec<Value> = (0..80).rev().map(|n| format!("conversation n{n}").into()).collect();
    assert_eq!(shown.as_array().unwrap(), &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_lead_through_the_list_and_a_pause_holds_what_comes() {
    let stage = Stage::set().await;
    for n in 0..4 {
        stage.note(&format!("n{n}")).await;
    }
    stage.of_type("session.opened", 4).await;
    let mut browser = stage.browser().await;
    let seqs = listed(&mut browser).await;
    let here = "Number(document.querySelector('.rec.here')?.dataset.seq)";
    browser.press("j").await;
    assert_eq!(browser.eval(here).await, seqs[0]);
    browser.press("j").await;
    browser.press("j").await;
    browser.press("k").await;
    assert_eq!(browser.eval(here).await, seqs[1]);

    browser.press("p").await;
    stage.note("held").await;
    browser.until("document.querySelector('#live').innerText === 'Paused, 1 new'").await;
    assert!(!text(&mut browser).await.contains("held"));
    browser.press("p").await;
    browser.until("document.querySelector('.rec').innerText.includes('held')").await;
    assert_eq!(browser.eval(here).await, seqs[1], "the place is kept");

    browser.press("/").await;
    assert_eq!(browser.eval("document.activeElement.name").await, "type");
    browser.press("j").await;
    assert_eq!(browser.eval("document.activeElement.value").await, "j", "in a field a key is a letter");
    browser.press("Escape").await;
    browser.press("?").await;
    assert_eq!(browser.eval("document.querySelector('#help').open").await, true);
    browser.press("Escape").await;
    assert_eq!(browser.eval("document.querySelector('#help').open").await, false);
    browser.press("j").await;
    browser.eval("window.left = true").await;
    assert_eq!(browser.eval("document.activeElement.closest('.rec')?.dataset.seq").await, seqs[2].to_string());
    browser.press("Enter").await;
    browser.until(&format!("location.pathname === '/record/{}'", seqs[2])).await;
    browser.until("document.readyState === 'complete'").await;
    browser.press("u").await;
    browser.until("location.pathname === '/'").await;
    quiet(&mut browser).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_and_the_dark_are_looked_after() {
    let (stage, mut person) = Stage::with_turns().await;
    person.ask("c", "what time is it in Tokyo?").await;
    person.ask("c", "what is 12.5% of 840?").await;
    stage.say(&"averyveryverylongwordwithoutanend".repeat(8)).await;
    let turns = stage.of_type("turn.finished", 2).await;
    let mut browser = stage.browser().await;
    let light = browser.eval("getComputedStyle(document.body).backgroundColor").await;
    browser.prefer("dark").await;
    assert_ne!(browser.eval("getComputedStyle(document.body).backgroundColor").await, light);
    show(&mut browser, "timeline-dark", false).await;
    browser.size(360, 740).await;
    let turn = turns[0].record["turn"].as_str().unwrap();
    for (name, path) in [
        ("timeline", "/".to_owned()),
        ("filtered", "/?outcome=deny".to_owned()),
        ("turn", format!("/turn/{turn}")),
        ("record", format!("/record/{}", turns[0].seq)),
        ("login", "/login?token=x".to_owned()),
    ] {
        browser.open(&format!("{}{path}", stage.url)).await;
        let width = browser.eval("document.documentElement.scrollWidth").await;
        assert!(width.as_u64().unwrap() <= 360, "{path} is {width} wide");
        for scheme in ["dark", "light"] {
            browser.prefer(scheme).await;
            show(&mut browser, &format!("phone-{name}-{scheme}"), false).await;
        }
    }
    quiet(&mut browser).await;
}
