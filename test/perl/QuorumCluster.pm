# QuorumCluster - several servers with pg_quorum for one test, on top of
# PostgreSQL::Test::Cluster.
#
#	my $c = QuorumCluster->new(nodes => 3);
#	$c->found;						# start, CREATE EXTENSION, create, join
#	$c->everywhere($schema);		# each server for itself
#	$c->add_tables('accounts');
#	$c->node(2)->safe_psql('postgres', 'INSERT ...');
#	$c->settle;						# all have applied what is committed
#	$c->tables_equal('accounts', 'after the insert');
#
# Nodes are called n1, n2, ... and counted from 1. Nothing here sleeps for a
# fixed time: poll() asks again until it holds or a bound is reached.
package QuorumCluster;

use strict;
use warnings;

use Carp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep clock_gettime CLOCK_MONOTONIC);

our $DB = 'postgres';
our $PATIENCE_S = 60;

# Timeouts as short as a loaded machine with two cores bears.
my $BASE_CONF = q(
shared_preload_libraries = 'pg_quorum'
quorum.database = 'postgres'
quorum.heartbeat_interval = '50ms'
quorum.election_timeout = '500ms'
max_connections = 80
restart_after_crash = on
max_worker_processes = 16
max_prepared_transactions = 5
shared_buffers = '32MB'
log_line_prefix = '%m [%p] %b %a '
log_statement = none
restart_after_crash = on
);

# nodes => how many; conf => text for all; prefix => of the names; faults => 1
# for servers whose disk and clock can be made to fail (fault, no_fault)
sub new
{
	my ($class, %args) = @_;
	my $self = bless {
		prefix => $args{prefix} // 'n',
		conf => $args{conf} // '',
		faults => $args{faults},
		nodes => [],
		raft_port => {},
		dead => {},
	}, $class;

	$self->add_node for 1 .. ($args{nodes} // 3);
	return $self;
}

# A new server, initialised and not started. conf => text, name => node name.
sub add_node
{
	my ($self, %args) = @_;
	my $name = $args{name} // $self->{prefix} . (@{ $self->{nodes} } + 1);
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	$node->init;
	$node->append_conf('postgresql.conf', $BASE_CONF . $self->{conf});
	$node->append_conf('postgresql.conf',
		"quorum.node_name = '$name'\nquorum.address = '127.0.0.1:$port'\n");
	$node->append_conf('postgresql.conf', $args{conf}) if $args{conf};
	$self->{raft_port}{$name} = $port;
	push @{ $self->{nodes} }, $node;
	return $node;
}

# A server that was made elsewhere, of a copy say: with a name and port of its own.
sub adopt_node
{
	my ($self, $node, $port) = @_;

	$node->append_conf('postgresql.conf', sprintf "quorum.node_name = '%s'\nquorum.address = '127.0.0.1:%d'\n",
		$node->name, $port);
	$self->{raft_port}{ $node->name } = $port;
	push @{ $self->{nodes} }, $node;
	return $node;
}

# It is gone for good: not asked any more. Its address can be used again.
sub remove_node
{
	my ($self, $node) = @_;

	$self->{nodes} = [ grep { $_->name ne $node->name } @{ $self->{nodes} } ];
}

sub node { return $_[0]{nodes}[ $_[1] - 1 ]; }
sub nodes { return @{ $_[0]{nodes} }; }
sub alive { my $self = shift; return grep { defined $_->{_pid} } $self->nodes; }
sub raft_port { my ($self, $node) = @_; return $self->{raft_port}{ $node->name }; }
sub address { my ($self, $node) = @_; return '127.0.0.1:' . $self->raft_port($node); }
sub others { my ($self, $not) = @_; return grep { $_->name ne $not->name } $self->nodes; }

sub now { return clock_gettime(CLOCK_MONOTONIC); }

# Calls the code until it returns true; that value, or undef past the bound.
sub poll
{
	my ($code, $bound_s, $step_us) = @_;
	my $end = now() + ($bound_s // $PATIENCE_S);

	while (1)
	{
		my $value = $code->();
		return $value if $value;
		return undef if now() > $end;
		usleep($step_us // 20_000);
	}
}

# Like poll, and a failed test with the state of all nodes when it never holds.
sub wait_until
{
	my ($self, $what, $code, $bound_s) = @_;
	my $value = poll($code, $bound_s);

	return $value if $value;
	diag("gave up waiting until: $what");
	$self->show_state;
	croak "gave up waiting until: $what";
}

sub show_state
{
	my ($self) = @_;

	for my $node ($self->alive)
	{
		my (undef, $out, $err) = $node->psql($DB, 'SELECT * FROM quorum.status',
			extra_params => ['-x'], timeout => 5, timed_out => \my $late);
		diag($node->name . ":\n" . ($out // '') . ($err // ''));
		diag(join '', map { "  log: $_\n" } tail_of($node->logfile, 15));
	}
}

sub tail_of
{
	my ($file, $count) = @_;
	my @lines = split /\n/, slurp_file($file);

	return @lines > $count ? @lines[ -$count .. -1 ] : @lines;
}

# Start all, create the extension, create the cluster on the first, join the rest.
sub found
{
	my ($self) = @_;
	my ($first, @rest) = $self->nodes;

	$self->restart($self->nodes);
	$self->everywhere('CREATE EXTENSION pg_quorum');
	$first->safe_psql($DB, 'SELECT quorum.create_cluster()');
	$self->wait_until('the first member leads',
		sub { $self->ask($first, 'SELECT role FROM quorum.status') eq 'leader' });
	$self->join_node($_) for @rest;
	return $self;
}

sub join_node
{
	my ($self, $node, $via) = @_;

	$via //= $self->node(1);
	$node->safe_psql($DB,
		sprintf("SELECT quorum.join_cluster('%s')", $self->address($via)));
}

# SQL on every live server, each for itself.
sub everywhere
{
	my ($self, $sql) = @_;

	$_->safe_psql($DB, $sql) for $self->alive;
}

sub add_tables
{
	my ($self, @tables) = @_;

	$self->node(1)->safe_psql($DB, "SELECT quorum.add_table('$_')") for @tables;
	$self->settle;
}

# One value, or '' when it cannot be had now: of no node (leader() between two
# leaders) either.
sub ask
{
	my ($self, $node, $sql) = @_;

	return '' unless defined $node;
	my ($status, $out) = $node->psql($DB, $sql, timeout => 15, timed_out => \my $late);

	return (defined $status && $status == 0 && defined $out) ? $out : '';
}

# What quorum.status says on a node: { role, leader, commit, applied }, or undef.
sub state_of
{
	my ($self, $node) = @_;
	my %state;

	@state{qw(role leader commit applied)} = split /\|/,
	  $self->ask($node, 'SELECT role, leader, commit_index, applied_index FROM quorum.status');
	return defined $state{applied} ? \%state : undef;
}

# The node that calls itself leader and whom all live ones name as such.
sub leader
{
	my ($self, @among) = @_;
	my @nodes = @among ? @among : $self->alive;
	my @states = map { $self->state_of($_) } @nodes;

	return undef if grep { !defined } @states;
	my ($at) = grep { $states[$_]{role} eq 'leader' } 0 .. $#nodes;
	return undef unless defined $at;
	return undef if grep { $_->{leader} ne $nodes[$at]->name } @states;
	return $nodes[$at];
}

sub wait_for_leader
{
	my ($self, @among) = @_;

	return $self->wait_until('there is a leader', sub { $self->leader(@among) });
}

# All live nodes (or those given) have applied all that is committed.
sub settle
{
	my ($self, @among) = @_;
	my @nodes = @among ? @among : $self->alive;
	my $leader = $self->wait_for_leader(@nodes);
	my $index = $self->ask($leader, 'SELECT commit_index FROM quorum.status');

	for my $node (@nodes)
	{
		$self->wait_until($node->name . " has applied entry $index",
			sub {
				$self->ask($node, "SELECT applied_index >= $index FROM quorum.status") eq 't';
			});
	}
	return $index;
}

# One text that two tables share exactly when they hold the same rows.
sub digest
{
	my ($self, $node, $table) = @_;

	return ($self->digests($node, $table))[0];
}

# Of several tables, with one connection.
sub digests
{
	my ($self, $node, @tables) = @_;

	return split /\n/, $node->safe_psql($DB, join ";\n", map { qq(
		SELECT count(*) || ':' || coalesce(md5(string_agg(t::text, E'\\n'
			ORDER BY t::text COLLATE "C")), '') FROM $_ t) } @tables);
}

sub tables_equal
{
	my ($self, $tables, $what, @among) = @_;
	my @nodes = @among ? @among : $self->alive;
	my @tables = ref $tables ? @$tables : $tables;
	my ($first, @rest) = map { [ $self->digests($_, @tables) ] } @nodes;
	my $good = @$first == @tables;

	for my $i (0 .. $#rest)
	{
		for my $t (0 .. $#tables)
		{
			next if ($rest[$i][$t] // '') eq $first->[$t];
			$good = 0;
			diag(sprintf '%s differs: %s on %s, %s on %s', $tables[$t], $first->[$t],
				$nodes[0]->name, $rest[$i][$t] // 'nothing', $nodes[ $i + 1 ]->name);
		}
	}
	return ok($good, $what);
}

# (SQLSTATE or '' for success, output, all of stderr). Each statement on its own.
sub try_sql
{
	my ($self, $node, $sql, %more) = @_;
	my ($status, $out, $err) =
	  $node->psql($DB, "\\set VERBOSITY verbose\n$sql", timeout => 60, %more);
	my ($state) = $err =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):/;

	$state = $status ? 'XX' . ($status // '') : '' unless defined $state;
	return ($state, $out, $err);
}

# The statement fails with this SQLSTATE, and the text matches.
sub fails_with
{
	my ($self, $node, $sql, $state, $pattern, $what) = @_;
	my ($got, undef, $err) = $self->try_sql($node, $sql);

	return subtest $what => sub {
		is($got, $state, "SQLSTATE $state");
		like($err, $pattern, 'text') if $pattern;
	};
}

# What a view of something asynchronous says in the end: polls until it is that,
# and compares.
sub comes_to_be
{
	my ($self, $node, $sql, $wanted, $what) = @_;
	my $got;

	poll(sub { ($got = $self->ask($node, $sql)) eq $wanted });
	return is($got, $wanted, $what);
}

# A session that stays, and what went wrong with a statement in it: its text.
sub session
{
	my ($self, $node) = @_;
	my $session = $node->background_psql($DB, on_error_stop => 0);

	$session->query('\set VERBOSITY verbose');
	return $session;
}

sub error_of
{
	my ($self, $session, $sql) = @_;

	$session->{stderr} = '';
	$session->query($sql);
	return $session->{stderr};
}

# Its SQLSTATE, '' for none.
sub state_of_error
{
	return error_of(@_) =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : '';
}

# 1 once the server has noticed that it is cut off.
sub poll_no_quorum
{
	my ($self, $node) = @_;

	return poll(sub { $self->ask($node, 'SELECT has_quorum FROM quorum.status') eq 'f' }) ? 1 : 0;
}

# Change a replicated table on one server only, as a broken disk might: the
# triggers that would notice are away while it is done.
sub behind_the_back
{
	my ($self, $node, $sql) = @_;

	$self->wait_until('nobody else is in the way', sub {
		my ($state, undef, $err) = $self->try_sql($node, qq(BEGIN;
			UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname LIKE '!pg_quorum%';
			$sql;
			UPDATE pg_trigger SET tgenabled = 'A' WHERE tgname LIKE '!pg_quorum%';
			COMMIT), on_error_stop => 1);
		croak $err if $state ne '' && $state ne '40001';
		return $state eq '';
	});
}

# --- processes ---

# Pids that work in the data directory: the postmaster and all of its children.
sub pids
{
	my ($self, $node) = @_;
	my $dir = $node->data_dir;
	my @pids;

	for my $proc (glob '/proc/[0-9]*')
	{
		my $cwd = readlink("$proc/cwd");
		push @pids, $proc =~ /(\d+)$/ if defined $cwd && $cwd =~ /^\Q$dir\E(?: \(deleted\))?$/;
	}
	return @pids;
}

# As a power cut would leave the server: every process gone. A backend that was
# forked while we looked survives the first round, so until none is left.
sub kill9
{
	my ($self, @nodes) = @_;

	$self->kill9_postmaster($_) for grep { defined $_->{_pid} } @nodes;
	for my $node (@nodes)
	{
		$self->wait_until($node->name . ' is dead',
			sub { my @pids = $self->pids($node); kill 'KILL', @pids; return !@pids; });
	}
}

# Only the postmaster: its children find out by themselves, and have to.
sub kill9_postmaster
{
	my ($self, $node) = @_;

	kill 'KILL', $node->{_pid};
	$self->{dead}{ $node->name } = $node->{_pid};
	$node->{_pid} = undef;
}

sub no_process_left
{
	my ($self, $node, $bound_s) = @_;

	return poll(sub { !$self->pids($node) }, $bound_s);
}

# The pid of a dead postmaster keeps the next one from starting until it is
# reaped, which process 1 of a container does in its own time.
sub restart
{
	my ($self, @nodes) = @_;

	for my $node (@nodes)
	{
		my $dead = delete $self->{dead}{ $node->name };
		$self->wait_until("pid $dead is reaped", sub { !kill 0, $dead }) if $dead;
		local %ENV = (%ENV, LD_PRELOAD => $ENV{PGQ_FAULT_LIBRARY},
			PGQ_FAULTS => $self->fault_dir($node),
			PGQ_LINKS => $self->{links}{ $node->name } // '') if $self->{faults};
		$self->wait_until($node->name . ' starts', sub { $node->start(fail_ok => 1) });
	}
}

# --- faults (test/tools/faults.c) ---

sub fault_dir
{
	my ($self, $node) = @_;
	my $dir = $node->basedir . '/faults';

	mkdir $dir;
	return $dir;
}

# fault($node, 'full') or fault($node, clock => microseconds)
sub fault
{
	my ($self, $node, $name, $value) = @_;
	my $file = $self->fault_dir($node) . "/$name";

	open my $out, '>', "$file.new" or croak "$file: $!";
	print $out $value // '';
	close $out;
	rename "$file.new", $file or croak "$file: $!";
}

sub no_fault
{
	my ($self, $node, $name) = @_;

	unlink $self->fault_dir($node) . "/$name";
}

sub pause
{
	my ($self, $node) = @_;

	kill 'STOP', $self->pids($node);
}

sub resume
{
	my ($self, $node) = @_;

	kill 'CONT', $self->pids($node);
}

sub log_matches
{
	my ($self, $node, $pattern, $bound_s) = @_;

	return poll(sub { slurp_file($node->logfile) =~ $pattern }, $bound_s);
}

# --- load in the background (test/tools/load.c) ---

our $LOAD_SCHEMA = q(
	CREATE TABLE load (run int, client int, n int, part int, node text,
		PRIMARY KEY (run, client, n, part));
	CREATE TABLE load_counter (id int PRIMARY KEY, v bigint NOT NULL);
);

my $runs = 0;

# clients => how many; mode => mixed | insert; nodes => [...]. Returns a handle.
sub start_load
{
	my ($self, %args) = @_;
	my @nodes = @{ $args{nodes} // [ $self->nodes ] };
	my $run = ++$runs;
	# load appends, and other tests of the run leave files in the same directory
	my $file = "$PostgreSQL::Test::Utils::tmp_check/load_$$\_$run";
	my @cmd = ($ENV{PGQ_LOAD} // croak('PGQ_LOAD is not set'),
		'-r', $run, '-c', $args{clients} // 3 * @nodes, '-m', $args{mode} // 'mixed',
		'-o', $file, map { $_->connstr($DB) } @nodes);
	my $pid = fork // croak "fork: $!";

	if ($pid == 0)
	{
		exec @cmd or die "exec $cmd[0]: $!";
	}
	return { pid => $pid, file => $file, run => $run,
		clients => $args{clients} // 3 * @nodes, nodes => \@nodes };
}

# Ends within some seconds; a client that hangs is cut off there.
sub stop_load
{
	my ($self, $load) = @_;

	kill 'TERM', $load->{pid};
	waitpid $load->{pid}, 0;
	return $self->read_load($load);
}

# Its clients stand still, or go on.
sub hold_load { my ($self, $load) = @_; kill 'STOP', clients_of($load); }
sub release_load { my ($self, $load) = @_; kill 'CONT', clients_of($load); }

sub clients_of
{
	my ($load) = @_;
	my @pids;

	for my $proc (glob '/proc/[0-9]*')
	{
		open my $stat, '<', "$proc/stat" or next;
		my ($pid, $parent) = (<$stat> // '') =~ /^(\d+) \(.*\) \S (\d+)/ or next;
		push @pids, $pid if $parent == $load->{pid};
	}
	return @pids;
}

# What each operation came to: "client n" => { verdict, state, start, end, node, hint },
# where verdict is A(cknowledged), R(efused) or U(nknown). Begun and not ended
# counts as unknown.
sub read_load
{
	my ($self, $load) = @_;
	my %op;

	open my $in, '<', $load->{file} or return {};
	while (my $line = <$in>)
	{
		next unless $line =~ /\n\z/;
		chomp $line;
		my ($kind, $time_us, $client, $n, $state, $hint) = split / /, $line, 6;
		my $key = "$client $n";
		if ($kind eq 'S')
		{
			$op{$key} = { verdict => 'U', state => 'open', start => $time_us / 1e6,
				node => $load->{nodes}[ $client % @{ $load->{nodes} } ] };
			next;
		}
		@{ $op{$key} }{qw(verdict state end hint)} = ($kind, $state, $time_us / 1e6, $hint);
	}
	close $in;
	return \%op;
}

sub acknowledged
{
	my ($self, $load) = @_;

	return scalar grep { $_->{verdict} eq 'A' } values %{ $self->read_load($load) };
}

1;
