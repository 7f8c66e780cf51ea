//! `nachos status`: one line a component.

use jiff::Timestamp;
use proto::Component;
use proto::admin::{Condition, Health};
use serde_json::json;

use super::ask::{State, everybody};
use crate::clean;
use crate::clock::lasted;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style, table};
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// One JSON object per component.
    #[arg(long)]
    json: bool,
}

/// A line for everybody.
pub(crate) async fn status(session: Session, mut out: Out, args: StatusArgs) -> Result<Ending, Failure> {
    let bus = session.connect().await?;
    let states = everybody(&bus).await;
    if args.json {
        for (component, state) in &states {
            out.line(&clean::json(&as_json(*component, state).to_string()))?;
        }
    } else {
        for line in render(out.paint(), &states, Timestamp::now()) {
            out.line(&line)?;
        }
    }
    let well = states.iter().all(|(_, state)| is_well(state));
    Ok(if well { Ending::Done } else { Ending::Unwell })
}

fn is_well(state: &State) -> bool {
    match state {
        State::Up(health) => first_wrong(health).is_none(),
        State::Off(_) => true,
        State::Down(_) => false,
    }
}

fn first_wrong(health: &Health) -> Option<&Condition> {
    health.conditions.iter().find(|condition| !condition.ok)
}

fn as_json(component: Component, state: &State) -> serde_json::Value {
    match state {
        State::Up(health) => json!({"component": component, "state": "up", "health": health}),
        State::Off(_) => json!({"component": component, "state": "off"}),
        State::Down(error) => json!({"component": component, "state": "down", "error": error.to_string()}),
    }
}

fn render(paint: Paint, states: &[(Component, State)], now: Timestamp) -> Vec<String> {
    let heading = ["component", "state", "version", "up for", "condition"];
    let mut rows = vec![heading.map(|word| (Style::Dim, word.to_owned())).to_vec()];
    rows.extend(states.iter().map(|(component, state)| row(*component, state, now)));
    table(paint, &rows)
}

fn row(component: Component, state: &State, now: Timestamp) -> Vec<(Style, String)> {
    let name = (Style::Bold, component.to_string());
    match state {
        State::Up(health) => {
            let condition = match first_wrong(health) {
                None => (Style::Plain, "well".to_owned()),
                Some(wrong) => (Style::Red, clean::line(&format!("{}: {}", wrong.name, wrong.detail))),
            };
            let since = lasted(now.duration_since(health.started));
            let version = clean::line(&health.version);
            vec![name, (Style::Green, "up".to_owned()), (Style::Plain, version), (Style::Plain, since), condition]
        }
        State::Off(_) => absent(name, (Style::Dim, "off"), (Style::Dim, "not running (optional)".to_owned())),
        State::Down(error) => absent(name, (Style::Red, "down"), (Style::Red, clean::line(&error.to_string()))),
    }
}

fn absent(name: (Style, String), state: (Style, &str), why: (Style, String)) -> Vec<(Style, String)> {
    let dash = (Style::Dim, "–".to_owned());
    vec![name, (state.0, state.1.to_owned()), dash.clone(), dash, why]
}

#[cfg(test)]
mod tests {
    use bus::CallError;
    use expect_test::expect;

    use super::*;

    fn health(component: Component, conditions: Vec<Condition>) -> State {
        let started = "2026-11-20T10:00:00Z".parse().unwrap();
        State::Up(Health { v: 1, component, version: "0.1.0".into(), started, conditions })
    }

    #[test]
    fn a_line_tells_what_is_the_matter_first() {
        let wrong =
            Condition { name: "policy set".into(), ok: false, detail: "10-a.cedar\nis broken".into(), hint: None };
        let well = Condition { name: "bus".into(), ok: true, detail: "connected".into(), hint: None };
        let states = [
            (Component::Gateway, health(Component::Gateway, vec![well.clone()])),
            (Component::ChannelSlack, State::Off("")),
            (Component::Policy, health(Component::Policy, vec![well, wrong])),
            (Component::Audit, State::Down(CallError::TimedOut("nachos.admin.health.audit".into()))),
        ];
        let now = "2026-11-20T12:05:00Z".parse().unwrap();
        expect![[r"
            component      state  version  up for     condition
            gateway        up     0.1.0    2 h 5 min  well
            channel-slack  off    –        –          not running (optional)
            policy         up     0.1.0    2 h 5 min  policy set: 10-a.cedar is broken
            audit          down   –        –          no answer on nachos.admin.health.audit in time"]]
        .assert_eq(&render(Paint::PLAIN, &states, now).join("\n"));
        assert_eq!(states.iter().map(|(_, state)| is_well(state)).collect::<Vec<_>>(), [true, true, false, false]);
    }
}
