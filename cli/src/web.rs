//! `nachos web login`: the way into the pages of the audit log.

use jiff::Timestamp;
use proto::seal::{LoginLink, LoginRequest};

use bus::Bus;

use crate::clean;
use crate::clock;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Paint, Style};
use crate::session::Session;

/// What can be done with the pages.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// A link that opens the audit log in a browser, once.
    Login(Login),
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// For whom; the record of the login names them.
    #[arg(long, default_value = "local", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    user: String,
    /// The answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Asks for a link and prints it.
pub(crate) async fn run(session: Session, mut out: Out, command: Command) -> Result<Ending, Failure> {
    let Command::Login(args) = command;
    let bus = session.connect().await?;
    let answer = bus.request(Bus::new_trace(), &LoginRequest { v: proto::VERSION, user: args.user }).await;
    let link = answer.map_err(|error| Failure::from(error).context("the web pages did not answer"))?;
    if args.json {
        let line = serde_json::to_string(&link).map_err(anyhow::Error::new)?;
        out.line(&clean::json(&line))?;
    } else {
        out.text(&render(out.paint(), &link, Timestamp::now()))?;
    }
    Ok(Ending::Done)
}

fn render(paint: Paint, link: &LoginLink, now: Timestamp) -> String {
    // Rounded up to whole seconds: a link for five minutes must not look like one for four.
    let left = clock::lasted(link.expires.duration_since(now) + jiff::SignedDuration::from_millis(999));
    let how = format!("It works once, within {left}. Whoever opens it sees the audit log.");
    format!("{}\n{}\n", paint.with(Style::Bold, &clean::line(&link.url)), paint.with(Style::Dim, &how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_how_long_it_works() {
        let now: Timestamp = "2026-11-21T03:00:00.001Z".parse().unwrap();
        let link = LoginLink {
            url: "http://127.0.0.1:8320/login/abc".into(),
            expires: "2026-11-21T03:05:00Z".parse().unwrap(),
        };
        assert_eq!(
            render(Paint::PLAIN, &link, now),
            "http://127.0.0.1:8320/login/abc\nIt works once, within 5 min. Whoever opens it sees the audit log.\n"
        );
    }
}
