#!/usr/bin/env escript
%% Runs scripts of supervision with the supervisor of OTP and writes down what happened: judge.escript FILE WAITING
%% FILE has the scripts one after another; those of WAITING, in which time passes, run beside one another.
-module(judge).
-mode(compile).
-export([main/1, init/1, start_worker/1, start_supervisor/1, worker/2]).

main([File, Waiting]) ->
    logger:set_primary_config(level, none),
    {ok, Scripts} = file:consult(File),
    lists:foreach(fun(Script) -> say(run_alone(Script)) end, Scripts),
    {ok, Slow} = file:consult(Waiting),
    Runs = [spawn_monitor(fun() -> exit({lines, run(Script)}) end) || Script <- Slow],
    lists:foreach(fun({Pid, Ref}) -> receive {'DOWN', Ref, process, Pid, {lines, Lines}} -> say(Lines) end end, Runs).

%% Each script has a process of its own, so that nothing of the last one is in its mailbox.
run_alone(Script) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit({lines, run(Script)}) end),
    receive {'DOWN', Ref, process, Pid, {lines, Lines}} -> Lines end.

say(Lines) -> io:put_chars([[Line, $\n] || Line <- Lines]).

run({script, Number, Tree, Events}) ->
    process_flag(trap_exit, true),
    Book = spawn_link(fun() -> book([], #{}, #{}) end),
    Root = element(2, Tree),
    Head = io_lib:format("script ~p", [Number]),
    First =
        case start_supervisor({Book, Tree}) of
            {ok, Pid} -> ok = ask(Book, {enter, Root, Pid}), ok;
            {error, _} -> ask(Book, {forget, Root}), down
        end,
    Begun = [Head, "event start" | settle(Book, Root, First)],
    Lines = Begun ++ lists:append([event(Book, Root, Event) || Event <- Events]),
    case ask(Book, {find, Root}) of
        none -> ok;
        Left -> end_supervisor(Left)
    end,
    Lines.

end_supervisor(Pid) ->
    Ref = monitor(process, Pid),
    exit(Pid, shutdown),
    receive {'DOWN', Ref, process, Pid, _} -> ok end.

event(Book, Root, Event) ->
    [io_lib:format("event ~w", [Event]) | settle(Book, Root, do(Book, Root, Event))].

do(_, _, {wait, Milliseconds}) ->
    timer:sleep(Milliseconds), none;
do(Book, Root, stop) ->
    case living(Book, Root) of none -> absent; Pid -> end_supervisor(Pid), ok end;
do(Book, _, {die, Name, Victims}) ->
    case living(Book, Name) of
        none -> absent;
        Supervisor ->
            %% All die while the supervisor does not look, so that it has the news of all of them, in this order.
            ok = sys:suspend(Supervisor),
            [kill(Supervisor, living(Book, Id), Reason) || {Id, Reason} <- Victims],
            ok = sys:resume(Supervisor),
            none
    end;
do(Book, _, {add, Name, Child}) -> call(Book, Name, fun(Pid) -> supervisor:start_child(Pid, spec(Book, Child)) end);
do(Book, _, {terminate, Name, Id}) -> call(Book, Name, fun(Pid) -> supervisor:terminate_child(Pid, Id) end);
do(Book, _, {restart, Name, Id}) -> call(Book, Name, fun(Pid) -> supervisor:restart_child(Pid, Id) end);
do(Book, _, {delete, Name, Id}) -> call(Book, Name, fun(Pid) -> supervisor:delete_child(Pid, Id) end).

call(Book, Name, Call) ->
    case living(Book, Name) of
        none -> absent;
        Pid ->
            case Call(Pid) of
                ok -> ok;
                {ok, _} -> ok;
                {error, {already_started, _}} -> running;
                {error, Known} when Known =:= already_present; Known =:= running; Known =:= restarting;
                                    Known =:= not_found -> Known;
                {error, _} -> start_failed
            end
    end.

kill(_, none, _) -> ok;
kill(Supervisor, Pid, Reason) ->
    Pid ! {die, Reason},
    news(Supervisor, Pid).

%% Until the supervisor has the news of this death in its mailbox.
news(Supervisor, Pid) ->
    {messages, Messages} = process_info(Supervisor, messages),
    case [there || {'EXIT', Dead, _} <- Messages, Dead =:= Pid] of
        [] -> erlang:yield(), news(Supervisor, Pid);
        _ -> ok
    end.

living(Book, Id) ->
    case ask(Book, {find, Id}) of
        none -> none;
        Pid -> case is_process_alive(Pid) of true -> Pid; false -> none end
    end.

%% Walks the tree until all in it is at rest, and says what is there.
settle(Book, Root, Result) ->
    Before = ask(Book, length),
    Seen =
        case living(Book, Root) of
            none -> "down";
            Pid -> try walk(Root, Pid) catch _:_ -> moving end
        end,
    case {Seen, ask(Book, length)} of
        {moving, _} -> erlang:yield(), settle(Book, Root, Result);
        {_, Before} ->
            Said = case Result of none -> []; _ -> [io_lib:format("result ~w", [Result])] end,
            ask(Book, lines) ++ Said ++ ["tree " ++ Seen];
        _ -> settle(Book, Root, Result)
    end.

walk(Id, Pid) ->
    Children = lists:reverse(supervisor:which_children(Pid)),
    io_lib:format("~w[~s]", [Id, lists:join(" ", [walk_child(Child) || Child <- Children])]).

walk_child({_, restarting, _, _}) -> throw(moving);
walk_child({Id, undefined, _, _}) -> io_lib:format("-~w", [Id]);
walk_child({Id, Pid, Type, _}) ->
    case is_process_alive(Pid) of
        false -> throw(moving);
        true when Type =:= supervisor -> walk(Id, Pid);
        true -> atom_to_list(Id)
    end.

%% The book has what happened in order, how often each child was started, and where it is.
book(Lines, Starts, Places) ->
    receive
        {From, Ref, Question} ->
            {Answer, Lines1, Starts1, Places1} = answer(Question, Lines, Starts, Places),
            From ! {Ref, Answer},
            book(Lines1, Starts1, Places1)
    end.

answer({start, Id}, Lines, Starts, Places) ->
    Count = maps:get(Id, Starts, 0) + 1,
    {Count, [io_lib:format("start ~w", [Id]) | Lines], Starts#{Id => Count}, Places};
answer({stop, Id}, Lines, Starts, Places) -> {ok, [io_lib:format("stop ~w", [Id]) | Lines], Starts, Places};
answer({enter, Id, Pid}, Lines, Starts, Places) -> {ok, Lines, Starts, Places#{Id => Pid}};
answer({forget, Id}, Lines, Starts, Places) -> {ok, Lines, Starts, maps:remove(Id, Places)};
answer({find, Id}, Lines, Starts, Places) -> {maps:get(Id, Places, none), Lines, Starts, Places};
answer(length, Lines, Starts, Places) -> {length(Lines), Lines, Starts, Places};
answer(lines, Lines, Starts, Places) -> {lists:reverse(Lines), [], Starts, Places}.

ask(Book, Question) ->
    Ref = make_ref(),
    Book ! {self(), Ref, Question},
    receive {Ref, Answer} -> Answer end.

%% What is supervised.

start_supervisor({Book, Tree}) ->
    ask(Book, {start, element(2, Tree)}),
    case supervisor:start_link(?MODULE, {Book, Tree}) of
        {ok, Pid} -> ok = ask(Book, {enter, element(2, Tree), Pid}), {ok, Pid};
        Other -> Other
    end.

init({Book, {sup, _, _, Strategy, Intensity, Period, Auto, _, Children}}) ->
    Flags = #{strategy => Strategy, intensity => Intensity, period => Period, auto_shutdown => Auto},
    {ok, {Flags, [spec(Book, Child) || Child <- Children]}}.

spec(Book, {sup, Id, Restart, _, _, _, _, Significant, _} = Tree) ->
    #{id => Id, start => {?MODULE, start_supervisor, [{Book, Tree}]}, restart => Restart, type => supervisor,
      significant => Significant};
spec(Book, {worker, Id, Restart, Shutdown, Significant, _, _, _} = Worker) ->
    #{id => Id, start => {?MODULE, start_worker, [{Book, Worker}]}, restart => Restart, shutdown => Shutdown,
      significant => Significant}.

start_worker({Book, {worker, Id, _, _, _, Starts, OnStart, _} = Worker}) ->
    Count = ask(Book, {start, Id}),
    Outcome = case Count =< length(Starts) of true -> lists:nth(Count, Starts); false -> ok end,
    [kill(self(), living(Book, Victim), crash) || {Number, Victim} <- OnStart, Number =:= Count],
    case Outcome of
        ok ->
            Pid = proc_lib:spawn_link(?MODULE, worker, [Book, {self(), Worker}]),
            receive {ready, Pid} -> {ok, Pid} end;
        ignore -> ignore;
        fail -> {error, failed}
    end.

worker(Book, {Supervisor, {worker, Id, _, _, _, _, _, OnStop}}) ->
    process_flag(trap_exit, true),
    ok = ask(Book, {enter, Id, self()}),
    Supervisor ! {ready, self()},
    receive
        {die, Reason} -> exit(Reason);
        {'EXIT', Supervisor, Reason} ->
            ok = ask(Book, {stop, Id}),
            [kill(Supervisor, living(Book, Victim), crash) || Victim <- OnStop],
            exit(Reason)
    end.
