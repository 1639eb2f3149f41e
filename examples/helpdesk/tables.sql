-- The desk's own tables, in the same database as monsal's: what a handler writes is part of its turn.
create table if not exists ticket (
    id text primary key,
    customer text not null,
    subject text not null,
    status text not null default 'open',
    agent text
) strict;
create index if not exists ticket_customer on ticket (customer, status);

create table if not exists note (
    id text primary key,
    ticket text not null references ticket (id),
    author text not null,
    text text not null
) strict;
