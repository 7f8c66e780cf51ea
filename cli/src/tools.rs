//! `nachos tools`: what the runners offer, what it touches and may use, and what they refused.

use bus::{Bus, CallError};
use proto::Family;
use proto::tool::{Catalog, CatalogRequest, Effects, Limits, Manifest};
use serde_json::json;

use crate::clean;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style, cut, pad};
use crate::session::Session;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object per runner.
    #[arg(long)]
    json: bool,
}

/// Asks every runner.
pub(crate) async fn run(session: Session, mut out: Out, args: Args) -> Result<Ending, Failure> {
    let bus = session.connect().await?;
    let mut ending = Ending::Done;
    for family in Family::ALL {
        let answer = bus.request(Bus::new_trace(), &CatalogRequest { v: proto::VERSION, family }).await;
        let catalog = answer.map_err(|error| no_runner(family, error))?;
        if !catalog.refused.is_empty() {
            ending = Ending::Unwell;
        }
        if args.json {
            let line = json!({"family": family, "tools": catalog.tools, "refused": catalog.refused});
            out.line(&clean::json(&line.to_string()))?;
        } else {
            out.text(&render(out.paint(), family, &catalog))?;
        }
    }
    Ok(ending)
}

fn no_runner(family: Family, error: CallError) -> Failure {
    Failure::from(error).context(format!("the runner of the {family} tools did not say what it offers"))
}

fn render(paint: Paint, family: Family, catalog: &Catalog) -> String {
    let width = catalog.tools.iter().map(|tool| tool.name.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for tool in &catalog.tools {
        text.push_str(&render_tool(paint, family, tool, width));
    }
    if catalog.tools.is_empty() {
        text.push_str(&format!("no {family} tools\n"));
    }
    for refused in &catalog.refused {
        let name = paint.with(Style::Red, &format!("✗ {}", clean::line(&refused.name)));
        text.push_str(&format!("{name}  refused: {}\n", clean::line(&refused.reason)));
    }
    text
}

fn render_tool(paint: Paint, family: Family, tool: &Manifest, width: usize) -> String {
    let name = paint.with(Style::Bold, &pad(tool.name.as_str(), width));
    let indent = " ".repeat(width + 2);
    let room = paint.width.map_or(usize::MAX, |all| all.saturating_sub(width + 2).max(20));
    let details = format!("{family} · {} · {}", effects(&tool.effects), limits(&tool.limits));
    format!(
        "{name}  {}\n{indent}{}\n",
        cut(&clean::line(&tool.description), room),
        paint.with(Style::Dim, &cut(&details, room)),
    )
}

fn effects(effects: &Effects) -> String {
    let words = [
        (effects.read_only, "changes nothing"),
        (!effects.read_only && effects.idempotent, "may run twice"),
        (!effects.may_repeat(), "changes things"),
        (effects.reads_untrusted, "reads untrusted"),
        (effects.reads_private, "reads private"),
        (effects.sends_outside, "sends outside"),
    ];
    let told: Vec<&str> = words.into_iter().filter(|(so, _)| *so).map(|(_, word)| word).collect();
    told.join(", ")
}

fn limits(limits: &Limits) -> String {
    let time = crate::clock::micros(limits.timeout_ms.saturating_mul(1000));
    format!("at most {time}, {} MiB, {} KiB out", limits.memory_bytes >> 20, limits.output_bytes >> 10)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proto::tool::RefusedTool;

    use super::*;

    fn tool(name: &str, effects: Effects) -> Manifest {
        Manifest {
            v: 1,
            name: name.parse().unwrap(),
            family: Family::Wasm,
            description: format!("What {name}\ndoes."),
            parameters: json!({}),
            effects,
            limits: Limits::default(),
        }
    }

    #[test]
    fn a_catalogue_tells_what_tools_touch_and_why_some_are_refused() {
        let harmless = Effects {
            reads_untrusted: false,
            reads_private: false,
            sends_outside: false,
            read_only: true,
            idempotent: true,
        };
        let catalog = Catalog {
            v: 1,
            tools: vec![tool("clock", harmless), tool("mail", Effects::default())],
            refused: vec![RefusedTool { name: "bad".into(), reason: "it imports \u{1b}[1mwasi:cli".into() }],
        };
        expect![[r"
            clock  What clock does.
                   wasm · changes nothing · at most 5.0 s, 32 MiB, 64 KiB out
            mail   What mail does.
                   wasm · changes things, reads untrusted, reads private, sends outside · at most 5.0 s, 32 MiB, 64 KiB out
            ✗ bad  refused: it imports wasi:cli
        "]]
        .assert_eq(&render(Paint::PLAIN, Family::Wasm, &catalog));
    }
}
