use examples::lab::load::Direction;

/// One kind of load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Row {
    /// As much as fits.
    Bulk {
        /// Which way.
        direction: Direction,
        /// Over how many connections.
        streams: usize,
    },
    /// A connection for each message.
    Churn {
        /// How many clients do so.
        clients: usize,
    },
    /// Idle connections.
    Idle,
    /// Small messages back and forth.
    PingPong {
        /// Over how many connections.
        connections: usize,
    },
    /// The same beside connections that nobody reads from.
    Stalled {
        /// How many of these.
        readers: usize,
    },
}

/// Connections with messages beside stalled readers.
pub(super) const BESIDE_STALLED: usize = 32;

impl Row {
    /// All rows, in the order in which they are measured.
    pub(super) const ALL: [Self; 13] = [
        Self::Bulk { direction: Direction::Up, streams: 1 },
        Self::Bulk { direction: Direction::Down, streams: 1 },
        Self::Bulk { direction: Direction::Up, streams: 8 },
        Self::Bulk { direction: Direction::Down, streams: 8 },
        Self::PingPong { connections: 1 },
        Self::PingPong { connections: 64 },
        Self::Churn { clients: 1 },
        Self::Churn { clients: 32 },
        Self::Stalled { readers: 0 },
        Self::Stalled { readers: 3 },
        Self::Stalled { readers: 10 },
        Self::Stalled { readers: 50 },
        Self::Idle,
    ];

    /// Its name on the command line and in data.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Bulk { direction: Direction::Down, streams } => format!("bulk-down-{streams}"),
            Self::Bulk { direction: Direction::Up, streams } => format!("bulk-up-{streams}"),
            Self::Churn { clients } => format!("churn-{clients}"),
            Self::Idle => "idle".to_owned(),
            Self::PingPong { connections } => format!("ping-pong-{connections}"),
            Self::Stalled { readers } => format!("stalled-{readers}"),
        }
    }

    /// What it is, in words.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Bulk { direction: Direction::Down, streams } => {
                format!("bulk, server to client, {streams} at once")
            }
            Self::Bulk { direction: Direction::Up, streams } => {
                format!("bulk, client to server, {streams} at once")
            }
            Self::Churn { clients } => format!("new connections, {clients} at once"),
            Self::Idle => "idle tunnels, from a fresh start".to_owned(),
            Self::PingPong { connections } => format!("64-byte messages, {connections} connections"),
            Self::Stalled { readers } => {
                format!("64-byte messages, {BESIDE_STALLED} connections beside {readers} stalled readers")
            }
        }
    }
}
