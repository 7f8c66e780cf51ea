//! What a turn costs: from a stored message to its reply, by the offline model, through all processes.

use std::time::Duration;

use proto::Component;
use tokio::time::Instant;

use crate::Stage;
use crate::measure::{Series, cpu_of};
use crate::report::{Budget, Report, show};

/// Turns of each kind.
const TURNS: usize = 200;

/// Turns of one conversation: a new one each time would be cheaper than life, an endless one dearer.
const IN_A_CONVERSATION: usize = 5;

/// What a turn may cost in all our processes.
const CPU: Duration = Duration::from_micros(500);

/// Without and with a tool, one by one; then many at once.
pub async fn turns(report: &mut Report, stage: &mut Stage) {
    for (kind, text) in [("without a tool", "hello"), ("with one tool", "what is 12.5% of 840?")] {
        let conversation = |number: usize| format!("{kind}-{}", number / IN_A_CONVERSATION);
        ask(stage, &conversation(TURNS), text).await;
        let (names, processes): (Vec<_>, Vec<_>) = processes(stage).into_iter().unzip();
        let all = async {
            let mut took = Vec::with_capacity(TURNS);
            for number in 0..TURNS {
                let start = Instant::now();
                ask(stage, &conversation(number), text).await;
                took.push(start.elapsed());
            }
            Series::of(took)
        };
        let (series, cpu) = cpu_of(&processes, all).await;
        report.latency(&format!("turn {kind}, from the stored message to the reply"), series, None);
        let cpu: Vec<Duration> = cpu.iter().map(|cpu| *cpu / u32::try_from(TURNS).expect("a small number")).collect();
        // The bus comes last and is not ours.
        let ours: Duration = cpu[..cpu.len() - 1].iter().sum();
        let each: Vec<String> = names.iter().zip(&cpu).map(|(name, cpu)| format!("{name} {}", show(*cpu))).collect();
        let what = format!("CPU of a turn {kind}, all our processes: {}", each.join(", "));
        report.time(&what, ours, Budget::time(ours, CPU, "≤ 0.5 ms"));
    }
    at_once(report, stage).await;
}

async fn at_once(report: &mut Report, stage: &mut Stage) {
    let start = Instant::now();
    for number in 0..TURNS {
        stage.person.write(&format!("at-once-{number}"), "what is 12.5% of 840?").await;
    }
    for _ in 0..TURNS {
        stage.person.reply().await;
    }
    let rate = TURNS as f64 / start.elapsed().as_secs_f64();
    report.figure(&format!("{TURNS} turns with one tool, all at once"), &format!("{rate:.0} turns/s"), None);
}

async fn ask(stage: &mut Stage, conversation: &str, text: &str) {
    let reply = stage.person.ask(conversation, text).await;
    assert!(reply.text.contains("105") || reply.text.starts_with("Hello"), "an odd answer: {}", reply.text);
}

/// Whoever takes part in a turn, and the bus at the end.
fn processes(stage: &Stage) -> Vec<(String, u32)> {
    let part = stage.stack.components().into_iter().filter(|component| *component != Component::ChannelSlack);
    let ours = part.map(|component| (component.to_string(), stage.stack.pid(component)));
    ours.chain([("and the bus".to_owned(), stage.server.pid())]).collect()
}
