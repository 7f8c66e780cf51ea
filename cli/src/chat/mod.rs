//! `nachos chat`: talk to the agent, one message or a line at a time.

mod channel;
mod event;
mod input;
mod mailbox;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use proto::channel::{MAX_TEXT, Progress, ReplyKind};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use self::channel::{Channel, Heard, Sent};
use self::event::Event;
use self::mailbox::{Letter, Whose};
use self::screen::Screen;
use crate::failure::{Ending, Failure};
use crate::out::{Out, Style};
use crate::session::Session;

/// Longest silence before waiting ends. A model may think for two minutes and a tool may run as long before the next sign of life.
const SILENCE: Duration = Duration::from_secs(180);

/// Silence after which a person at a terminal is told that it is not the screen that hangs.
const IMPATIENCE: Duration = Duration::from_secs(15);

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One message; without it a line at a time, or all of standard input where that is no terminal.
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The conversation to go on with; a new one if absent.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Who writes.
    #[arg(long, default_value = "local")]
    user: String,
    /// What happens, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Longest silence to wait through, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = SILENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Talks.
pub(crate) async fn run(session: Session, out: Out, args: Args) -> Result<Ending, Failure> {
    let interactive = args.message.is_none() && std::io::stdin().is_terminal();
    let text = match &args.message {
        Some(text) => Some(text.clone()),
        None if interactive => None,
        None => Some(input::everything().await?),
    };
    let resumes = args.session.is_some();
    let conversation = args.session.unwrap_or_else(new_conversation);
    let channel = Channel::open(&session, conversation, args.user).await?;
    let screen = if args.json { Screen::json(out) } else { Screen::human(out, interactive) };
    let mut chat = Chat { channel, screen, silence: Duration::from_secs(args.timeout) };
    let ended = match text {
        Some(text) => chat.one(&text).await,
        None => chat.lines().await,
    };
    if let Err(failure) = &ended
        && args.json
    {
        chat.screen.failure(failure)?;
    }
    if !resumes && !interactive && !args.json {
        how_to_go_on(chat.channel.conversation())?;
    }
    ended
}

/// Short enough to type, random enough not to be somebody else's.
fn new_conversation() -> String {
    let mut id = Uuid::new_v4().simple().to_string();
    id.truncate(12);
    id
}

/// For a person; a script that wants to go on gave the name itself.
fn how_to_go_on(conversation: &str) -> Result<(), Failure> {
    let mut err = Out::stderr();
    if !err.is_terminal() {
        return Ok(());
    }
    let text = format!("go on with: nachos chat --session {conversation}");
    let text = err.paint().with(Style::Dim, &text);
    Ok(err.line(&text)?)
}

struct Chat {
    channel: Channel,
    screen: Screen,
    silence: Duration,
}

impl Chat {
    async fn one(&mut self, text: &str) -> Result<Ending, Failure> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Failure::new("there is nothing to say", "nachos chat -m \"what time is it in Tokyo?\""));
        }
        if text.len() > MAX_TEXT {
            let message =
                format!("the message has {} bytes, more than the {MAX_TEXT} that a channel takes", text.len());
            return Err(Failure::new(message, "send less at once"));
        }
        let sent = self.channel.send(text).await?;
        self.screen.show(&Event::Sent {
            conversation: self.channel.conversation().to_owned(),
            message: sent.event,
            trace: sent.trace.id(),
        })?;
        self.wait(&sent).await
    }

    /// A line at a time until `/quit` or the end of input. What fails is told, and the next line is taken.
    async fn lines(&mut self) -> Result<Ending, Failure> {
        self.screen.welcome(self.channel.conversation())?;
        let mut lines = input::lines();
        loop {
            self.screen.prompt()?;
            let line = loop {
                tokio::select! {
                    line = lines.recv() => break line,
                    letter = self.channel.letter() => self.late(&letter).await?,
                }
            };
            match line.transpose()?.as_deref().map(str::trim) {
                None => return Ok(self.screen.farewell()?),
                Some("/quit" | "/exit") => return Ok(Ending::Done),
                Some("") => {}
                Some(text) => {
                    if let Err(failure) = self.one(text).await {
                        self.screen.failure(&failure)?;
                    }
                }
            }
        }
    }

    /// Shows what happens until the answer is there.
    async fn wait(&mut self, sent: &Sent) -> Result<Ending, Failure> {
        let mut last_sign = Instant::now();
        let mut patient = true;
        loop {
            let next = if patient { IMPATIENCE.min(self.silence) } else { self.silence };
            tokio::select! {
                heard = self.channel.next() => {
                    last_sign = Instant::now();
                    match heard {
                        Heard::Progress(what) => self.progress(what)?,
                        Heard::Letter(letter) if letter.answers(sent.event) => return self.answer(*letter, sent).await,
                        Heard::Letter(letter) => self.late(&letter).await?,
                    }
                }
                () = sleep_until(last_sign + next) => {
                    if last_sign.elapsed() >= self.silence {
                        return Err(self.no_answer());
                    }
                    patient = false;
                    self.screen.waiting()?;
                }
            }
        }
    }

    fn progress(&mut self, what: Progress) -> Result<(), Failure> {
        let event = match what {
            Progress::Text { text } => Event::Text { text },
            Progress::ToolStarted { tool, arguments } => Event::ToolStarted { tool, arguments },
            Progress::ToolFinished { tool, ok, summary } => Event::ToolFinished { tool, ok, summary },
            Progress::Unknown => return Ok(()),
        };
        Ok(self.screen.show(&event)?)
    }

    async fn answer(&mut self, letter: Letter, sent: &Sent) -> Result<Ending, Failure> {
        while let Some(what) = self.channel.delta_at_hand() {
            self.progress(what)?;
        }
        let reply = &letter.reply;
        let (text, conversation) = (reply.text.clone(), reply.conversation.clone());
        let (session, turn, trace) = (reply.session.clone(), reply.turn, sent.trace.id());
        let (event, ending) = match reply.kind {
            ReplyKind::Answer => (Event::Answer { text, conversation, session, turn, trace }, Ending::Done),
            ReplyKind::Notice => (Event::Notice { text, conversation, session, turn, trace }, Ending::Refused),
        };
        self.screen.show(&event)?;
        self.channel.sent(&letter).await?;
        Ok(ending)
    }

    /// An answer that nobody waits for any more, to this conversation or to an abandoned one.
    async fn late(&mut self, letter: &Letter) -> Result<(), Failure> {
        let reply = &letter.reply;
        let abandoned = letter.whose == Whose::Abandoned;
        self.screen.show(&Event::Late {
            text: reply.text.clone(),
            conversation: reply.conversation.clone(),
            abandoned,
        })?;
        self.channel.sent(letter).await
    }

    fn no_answer(&self) -> Failure {
        let conversation = self.channel.conversation();
        Failure::new(
            format!("no sign of an answer for {} s", self.silence.as_secs()),
            &format!(
                "the message is stored and will be answered: nachos chat --session {conversation} shows it then; \
                 nachos doctor says what is wrong"
            ),
        )
    }
}
