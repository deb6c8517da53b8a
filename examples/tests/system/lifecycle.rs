crate::runner::cases![];
