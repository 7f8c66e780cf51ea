//! A real browser: Chromium without a window, told what to do over its DevTools protocol.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long the browser may take for anything, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What the browser says of a page that is being left.
const LEFT: [&str; 2] = ["navigated or closed", "context was destroyed"];

/// Messages of which a page told, such as errors and violations of its rules.
const TELLING: [&str; 3] = ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"];

/// A browser with one page, with a profile of its own. It ends with this value.
pub struct Chromium {
    child: Child,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    sent: u64,
    told: Vec<Value>,
    _profile: TempDir,
}

impl Chromium {
    /// Starts the browser that `NACHOS_CHROMIUM` names, or `chromium`.
    pub async fn start() -> Self {
        let program = std::env::var("NACHOS_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let profile = TempDir::new().expect("a temporary folder");
        let mut child = Command::new(&program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {program}: {error}; install it, or name one in NACHOS_CHROMIUM")
            });
        let said = BufReader::new(child.stderr.take().expect("its output"));
        let address = tokio::task::spawn_blocking(move || address(said)).await.expect("a task");
        let (socket, _) = connect_async(address).await.expect("a connection to the browser");
        let mut browser = Self { child, socket, session: String::new(), sent: 0, told: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach).await;
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// One command and its result; nothing where the page was left before it answered.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut command = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(command.to_string())).await.expect("a command is sent");
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await;
            let message =
                message.unwrap_or_else(|_| panic!("{method}: no answer")).expect("a browser").expect("a message");
            let Ok(text) = message.to_text() else { continue };
            let Ok(message) = serde_json::from_str::<Value>(text) else { continue };
            if message["id"] == id {
                let error = message["error"]["message"].as_str().unwrap_or_default();
                // A question to a page that is being left has no answer, and no fault.
                let left = LEFT.iter().any(|left| error.contains(left));
                assert!(message["error"].is_null() || left, "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            if message["method"].as_str().is_some_and(|method| TELLING.contains(&method)) {
                self.told.push(message["params"].clone());
            }
        }
    }

    /// What a script comes to; a promise is waited for.
    pub async fn eval(&mut self, script: &str) -> Value {
        let ask = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", ask).await;
        assert!(result["exceptionDetails"].is_null(), "{script}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until a script comes to something true.
    pub async fn until(&mut self, script: &str) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            // Between two pages there is nothing to ask.
            let ask = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
            let value = self.call("Runtime.evaluate", ask).await["result"]["value"].clone();
            if !matches!(value, Value::Null | Value::Bool(false)) && value != 0 && value != "" {
                return value;
            }
            if Instant::now() > give_up {
                let text = self.eval("document.body.innerText").await;
                panic!("never true: {script}\n{}", text.as_str().unwrap_or_default());
            }
            sleep(LOOK).await;
        }
    }

    /// Opens an address and waits for the page.
    pub async fn open(&mut self, address: &str) {
        self.eval("window.left = true").await;
        self.call("Page.navigate", json!({"url": address})).await;
        self.loaded().await;
    }

    /// Does something that leads to another page, and waits for it.
    pub async fn follow(&mut self, script: &str) {
        self.eval(&format!("window.left = true; {script}; 0")).await;
        self.loaded().await;
    }

    async fn loaded(&mut self) {
        self.until("!window.left && document.readyState === 'complete'").await;
    }

    /// Presses a key: a character, or `Enter` and `Escape`.
    pub async fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => Some("\r"),
            key if key.chars().count() == 1 => Some(key),
            _ => None,
        };
        // Keys that have a meaning of their own are known to the browser by their numbers.
        let number = match key {
            "Enter" => 13,
            "Escape" => 27,
            _ => 0,
        };
        let down =
            json!({"type": "keyDown", "key": key, "text": text.unwrap_or_default(), "windowsVirtualKeyCode": number});
        self.call("Input.dispatchKeyEvent", down).await;
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": number}))
            .await;
    }

    /// The size of the window in CSS pixels; a small one is a phone.
    pub async fn size(&mut self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What the system prefers: `light` or `dark`.
    pub async fn prefer(&mut self, scheme: &str) {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// Whether scripts run.
    pub async fn scripts(&mut self, run: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !run})).await;
    }

    /// A picture of the window, or of the whole page.
    pub async fn picture(&mut self, file: &Path, whole: bool) {
        let shot = self.call("Page.captureScreenshot", json!({"captureBeyondViewport": whole})).await;
        let data = shot["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(file, bytes).expect("a file");
    }

    /// What the pages have told so far: errors, violations of their rules, and what scripts print.
    pub async fn told(&mut self) -> Vec<String> {
        // What was told before this answer has arrived with it.
        self.eval("0").await;
        self.told.drain(..).map(|told| told.to_string()).collect()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

/// The address that the browser prints when it is ready. Its output is read to the end, or it would block.
fn address(mut said: BufReader<std::process::ChildStderr>) -> String {
    let mut line = String::new();
    let mut all = String::new();
    while said.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some(address) = line.trim().strip_prefix("DevTools listening on ") {
            let address = address.to_owned();
            std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
            return address;
        }
        all.push_str(&line);
        line.clear();
    }
    panic!("the browser did not start:\n{all}");
}
