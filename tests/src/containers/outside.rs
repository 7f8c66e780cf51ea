//! An outside on this machine, so that a probe that should not get out would not leave the machine either.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A name server gives up after so long without a question.
const QUIET: Duration = Duration::from_secs(60);

/// A server on this machine that greets, as an outside that no packet has to leave the machine for.
pub struct Listener {
    pub address: SocketAddr,
    reached: Arc<AtomicUsize>,
}

impl Listener {
    /// Starts on a free port.
    pub fn on(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap_or_else(|error| panic!("cannot listen on {ip}: {error}"));
        let (address, reached) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&reached);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let _greeted = connection.write_all(b"outside");
            }
        });
        Self { address, reached }
    }

    /// How often it was reached.
    pub fn count(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }
}

/// Answers questions about names on port 53 of an address; false where that port is not to be had.
pub fn answer_names(ip: &str) -> bool {
    let Ok(socket) = UdpSocket::bind((ip, 53)) else { return false };
    socket.set_read_timeout(Some(QUIET)).expect("a time limit");
    std::thread::spawn(move || while answer_a_name(&socket).is_ok() {});
    true
}

/// One answer, always 192.0.2.7: header, question as asked, one A record that points to the question's name.
fn answer_a_name(socket: &UdpSocket) -> std::io::Result<()> {
    let mut query = [0; 512];
    let (length, from) = socket.recv_from(&mut query)?;
    let end = 12 + query[12..length].iter().position(|byte| *byte == 0).unwrap_or_default() + 5;
    let head = [query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
    socket.send_to(&[&head, &query[12..end], &record].concat(), from)?;
    Ok(())
}
