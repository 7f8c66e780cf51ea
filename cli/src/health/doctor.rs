//! `nachos doctor`: every check there is, one by one, and for each that fails what to do.

use bus::{Bus, CallError};
use proto::Component;
use proto::admin::{Condition, Health};
use proto::keys::SigningKey;

use super::ask::{State, everybody};
use crate::clean;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style, pad};
use crate::session::{Session, connect};

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    verdict: Verdict,
    name: String,
    detail: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    Wrong,
    Off,
}

/// What was looked at, by whom it belongs to.
type Findings = Vec<(String, Vec<Check>)>;

/// Looks at everything, as far as it gets.
pub(crate) async fn doctor(session: Session, mut out: Out) -> Result<Ending, Failure> {
    let findings = look(&session).await;
    for line in render(out.paint(), &findings) {
        out.line(&line)?;
    }
    let wrong = count(&findings, Verdict::Wrong);
    Ok(if wrong == 0 { Ending::Done } else { Ending::Unwell })
}

async fn look(session: &Session) -> Findings {
    let (common, own) = match session.settings() {
        Ok(settings) => settings,
        Err(failure) => return vec![("cli".to_owned(), vec![Check::failed("settings", &failure)])],
    };
    let key = origin_key(&own.origin_key);
    let url = common.bus.url.clone();
    let bus = match connect(common).await {
        Ok(bus) => bus,
        Err(failure) => return vec![("cli".to_owned(), vec![key, Check::failed("bus", &failure)])],
    };
    let connected = Check::well("bus", format!("connected to {url}"));
    let mut findings = vec![("cli".to_owned(), vec![key, connected])];
    findings.extend(components(&bus).await);
    findings
}

/// What the channel `cli` signs with: without it nothing that is written here is believed.
fn origin_key(file: &std::path::Path) -> Check {
    let read = std::fs::read_to_string(file).map_err(|error| error.to_string());
    match read.and_then(|pem| SigningKey::from_pem(&pem).map_err(|error| error.to_string())) {
        Ok(_) => Check::well("origin key", file.display().to_string()),
        Err(why) => Check {
            hint: Some("./nachos up makes it".to_owned()),
            ..Check::wrong("origin key", format!("{}: {why}", file.display()))
        },
    }
}

async fn components(bus: &Bus) -> Findings {
    let states = everybody(bus).await;
    states.into_iter().map(|(component, state)| (component.to_string(), checks(component, state))).collect()
}

fn checks(component: Component, state: State) -> Vec<Check> {
    match state {
        State::Up(health) => answered(health),
        State::Off(start) => vec![Check {
            verdict: Verdict::Off,
            hint: Some(start.to_owned()),
            ..Check::well("running", "not running".to_owned())
        }],
        State::Down(error) => {
            let hint = match error {
                CallError::NoResponder(_) => {
                    format!("./nachos up starts it; ./nachos logs {component} tells why it stopped")
                }
                _ => format!("./nachos logs {component} says more"),
            };
            vec![Check { hint: Some(hint), ..Check::wrong("running", error.to_string()) }]
        }
    }
}

fn answered(health: Health) -> Vec<Check> {
    let ours = env!("CARGO_PKG_VERSION");
    let mut checks = vec![Check::well("running", format!("version {}", health.version))];
    if health.version != ours {
        let hint = "./nachos up replaces what is of another release".to_owned();
        let detail = format!("version {}, this tool is {ours}", health.version);
        checks = vec![Check { hint: Some(hint), ..Check::wrong("running", detail) }];
    }
    checks.extend(health.conditions.into_iter().map(Check::from));
    checks
}

impl Check {
    fn well(name: &str, detail: String) -> Self {
        Self { verdict: Verdict::Well, name: name.to_owned(), detail, hint: None }
    }

    fn wrong(name: &str, detail: String) -> Self {
        Self { verdict: Verdict::Wrong, name: name.to_owned(), detail, hint: None }
    }

    fn failed(name: &str, failure: &Failure) -> Self {
        Self { hint: failure.hint().map(str::to_owned), ..Self::wrong(name, failure.to_string()) }
    }
}

impl From<Condition> for Check {
    fn from(condition: Condition) -> Self {
        Self {
            verdict: if condition.ok { Verdict::Well } else { Verdict::Wrong },
            name: condition.name,
            detail: condition.detail,
            // What to do is told where there is something to do.
            hint: condition.hint.filter(|_| !condition.ok),
        }
    }
}

fn count(findings: &Findings, verdict: Verdict) -> usize {
    findings.iter().flat_map(|(_, checks)| checks).filter(|check| check.verdict == verdict).count()
}

fn render(paint: Paint, findings: &Findings) -> Vec<String> {
    let width = |texts: &mut dyn Iterator<Item = &str>| texts.map(|text| text.chars().count()).max().unwrap_or(0);
    let who = width(&mut findings.iter().map(|(who, _)| who.as_str()));
    let name = width(&mut findings.iter().flat_map(|(_, checks)| checks).map(|check| check.name.as_str()));
    let mut lines = Vec::new();
    for (component, checks) in findings {
        for (index, check) in checks.iter().enumerate() {
            let whose = if index == 0 { component.as_str() } else { "" };
            let start = format!("{}  ", paint.with(Style::Bold, &pad(whose, who)));
            lines.push(format!("{start}{}", check_line(paint, check, name)));
            let indent = " ".repeat(who + 4);
            lines.extend(check.hint.as_ref().map(|hint| format!("{indent}→ {}", clean::line(hint))));
        }
    }
    lines.push(String::new());
    lines.push(summary(paint, findings));
    lines
}

fn check_line(paint: Paint, check: &Check, width: usize) -> String {
    let (style, mark) = match check.verdict {
        Verdict::Well => (Style::Green, "✓"),
        Verdict::Wrong => (Style::Red, "✗"),
        Verdict::Off => (Style::Dim, "–"),
    };
    let detail_style = if check.verdict == Verdict::Well { Style::Dim } else { style };
    let detail = paint.with(detail_style, &clean::line(&check.detail));
    format!("{} {}  {detail}", paint.with(style, mark), pad(&clean::line(&check.name), width))
}

fn summary(paint: Paint, findings: &Findings) -> String {
    let (well, wrong, off) =
        (count(findings, Verdict::Well), count(findings, Verdict::Wrong), count(findings, Verdict::Off));
    let off = if off == 0 { String::new() } else { format!(", {off} off") };
    match wrong {
        0 => paint.with(Style::Green, &format!("all is well: {well} checks{off}")),
        _ => paint.with(Style::Red, &format!("{wrong} wrong, {well} well{off}")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn every_failure_says_what_to_do() {
        let condition = |name: &str, ok, hint: Option<&str>| Condition {
            name: name.into(),
            ok,
            detail: "its\nstate".into(),
            hint: hint.map(str::to_owned),
        };
        let health = Health {
            v: 1,
            component: Component::Policy,
            version: env!("CARGO_PKG_VERSION").into(),
            started: "2026-11-20T10:00:00Z".parse().unwrap(),
            conditions: vec![condition("bus", true, Some("unseen")), condition("policy set", false, Some("mend it"))],
        };
        let findings = vec![
            ("policy".to_owned(), checks(Component::Policy, State::Up(health))),
            (
                "channel-slack".to_owned(),
                checks(
                    Component::ChannelSlack,
                    State::Off("optional; it starts once its secrets are there, see ./nachos help slack"),
                ),
            ),
            (
                "audit".to_owned(),
                checks(Component::Audit, State::Down(CallError::NoResponder("nachos.admin.health.audit".into()))),
            ),
        ];
        expect![[r"
            policy         ✓ running     version 0.1.0
                           ✓ bus         its state
                           ✗ policy set  its state
                             → mend it
            channel-slack  – running     not running
                             → optional; it starts once its secrets are there, see ./nachos help slack
            audit          ✗ running     nobody answers on nachos.admin.health.audit: is the component running?
                             → ./nachos up starts it; ./nachos logs audit tells why it stopped

            2 wrong, 2 well, 1 off"]]
        .assert_eq(&render(Paint::PLAIN, &findings).join("\n"));
    }
}
