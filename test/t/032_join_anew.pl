# Servers that join with tables of the cluster: one that was removed, a copy made
# with pg_basebackup while everybody writes, one that lost its data. Nothing is
# copied twice, and no sequence value is given out twice.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.election_timeout = '2s'\nwal_level = replica\nmax_wal_senders = 4\nmax_replication_slots = 4\n");
my ($one, $two, $three) = $c->nodes;
my @tables = qw(load load_counter t);

sub status { my ($node, $column) = @_; return $c->ask($node, "SELECT $column FROM quorum.status"); }
sub write_t { my ($node, $v) = @_; return ($c->try_sql($node, "INSERT INTO t (v) SELECT '$v' FROM generate_series(1, 5)"))[0]; }

$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->everywhere('CREATE TABLE t (id serial PRIMARY KEY, v text)');
$c->add_tables(@tables);
is(write_t($_, 'begin'), '', 'to begin with') for $c->nodes;
$c->settle;

# --- removed, and back, with writes in between ---

$one->safe_psql($db, q(SELECT quorum.transfer_leadership('n1')));
my $old_id = status($three, 'node_id');
$one->safe_psql($db, q(SELECT quorum.remove_member('n3')));
$c->wait_until('it knows', sub { status($three, 'role') eq 'removed' });
my $term = status($one, 'term');
$three->restart;
$c->wait_until('it knows after a restart', sub { status($three, 'role') eq 'removed' });
is(($c->try_sql($three, q(INSERT INTO t (v) VALUES ('no'))))[0], '25006', 'it cannot write');
is($three->safe_psql($db, 'SELECT count(*) FROM t'), '15', 'it can be read');
is(write_t($_, 'without it'), '', 'the others go on') for $one, $two;
$one->safe_psql($db, 'ALTER TABLE t ADD COLUMN w int DEFAULT 7');
is(status($one, 'term'), $term, 'it has not disturbed them');
$c->fails_with($three, q(SELECT quorum.create_cluster()), '55000', qr/was, a member of a cluster/, 'it cannot found another cluster');
my $load = $c->start_load(clients => 4, nodes => [ $one, $two ]);
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 50 });
$c->join_node($three);
isnt(status($three, 'node_id'), $old_id, 'it is a new member');
is(status($three, 'role'), 'follower', 'and votes');
ok($c->log_matches($three, qr/nothing is copied/), 'with the tables that it had');
is(write_t($_, 'together'), '', 'all write') for $c->nodes;
my $ops = $c->stop_load($load);
is(scalar(grep { $_->{verdict} ne 'A' && $_->{state} !~ /^(?:40001|open)$/ } values %$ops), 0, 'no client saw any of it');
$c->settle;
$c->tables_equal(\@tables, 'all equal');
is($three->safe_psql($db, 'SELECT count(*) FILTER (WHERE w = 7) = count(*) FROM t'), 't', 'with what was altered meanwhile');

# removed by itself, and back at once; then over a crash
$three->safe_psql($db, 'SELECT quorum.leave_cluster()');
$c->wait_until('it knows', sub { status($three, 'role') eq 'removed' });
$c->join_node($three, $two);
is(write_t($three, 'again'), '', 'removed and back in one life of the server');
$c->kill9($three);
$c->restart($three);
$c->wait_until('it runs', sub { status($three, 'role') eq 'follower' });
is(write_t($three, 'after a crash'), '', 'and after a crash');
$c->wait_until('there is nothing special about it', sub { status($three, q(coalesce(detail, 'none'))) eq 'none' });

# a crash in the middle of the change of identity: the next start finishes it
my $own = $three->data_dir . '/pg_quorum';
for my $renamed (0, 1)
{
	$three->stop('immediate');
	mkdir "$own/log.old";
	append_to_file("$own/log.old/meta", 'of the old one');
	append_to_file("$own/removed", '');
	rename "$own/log", "$own/log.new" unless $renamed;
	$c->restart($three);
	$c->wait_until('it runs', sub { status($three, 'role') eq 'follower' });
	ok(!-e "$own/log.old" && !-e "$own/log.new" && !-e "$own/removed", 'a crash in the middle is finished by the next start');
	is(write_t($three, 'finished'), '', 'and it writes');
}

# another cluster's
my $other = $c->add_node(name => 'other');
$c->restart($other);
$other->safe_psql($db, 'CREATE EXTENSION pg_quorum');
$other->safe_psql($db, 'SELECT quorum.create_cluster()');
$three->safe_psql($db, 'SELECT quorum.leave_cluster()');
$c->wait_until('it knows', sub { status($three, 'role') eq 'removed' });
$c->fails_with($three, sprintf(q(SELECT quorum.join_cluster('%s')), $c->address($other)), '55000', qr/those of another cluster/,
	'not another cluster');
is(status($three, 'role'), 'removed', 'it is what it was');
$other->stop('immediate');
$c->remove_node($other);
$c->join_node($three);

# away for so long that no log reaches back: its tables are replaced
$_->append_conf('postgresql.conf', "quorum.max_log_size = '16MB'\n") for $one, $two;
$_->reload for $one, $two;
$three->safe_psql($db, 'SELECT quorum.leave_cluster()');
$c->wait_until('it knows', sub { status($three, 'role') eq 'removed' });
$one->safe_psql($db, "INSERT INTO t (v) SELECT string_agg(md5((g * 1000 + k)::text), '') FROM generate_series(1, 40) g,
	generate_series(1, 6250) k GROUP BY g") for 1 .. 8;
$c->settle($one, $two);
$c->wait_until('the logs are cut', sub { $one->safe_psql($db, sprintf 'SELECT quorum._image_term(%d) IS NULL',
	status($three, 'applied_index')) eq 't' && $two->safe_psql($db, sprintf 'SELECT quorum._image_term(%d) IS NULL',
	status($three, 'applied_index')) eq 't' });
$c->join_node($three);
is(write_t($three, 'long away'), '', 'one that was away for long');
$c->settle;
$c->tables_equal(\@tables, 'equal with a fresh image');
$one->safe_psql($db, 'DELETE FROM t WHERE length(v) > 1000');

# --- a copy, made while everybody writes ---

$load = $c->start_load(clients => 6, nodes => [ $one, $two, $three ]);
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 50 });
$two->backup('hot');
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $four = PostgreSQL::Test::Cluster->new('n4');
$four->init_from_backup($two, 'hot');
$c->adopt_node($four, $port);
$c->restart($four);
$c->wait_until('it says what it is', sub { status($four, 'detail') =~ /data directory is that of member "n2", or a copy/ });
is($four->safe_psql($db, 'SELECT count(*) > 0 FROM t'), 't', 'it can be read');
isnt(write_t($four, 'no'), '', 'and not written');
$c->comes_to_be($one, q(SELECT count(*) FILTER (WHERE reachable) FROM quorum.members), '3', 'the others do not take it for n2');
$c->join_node($four, $one);
ok($c->log_matches($four, qr/nothing is copied/), 'with the tables that came with the copy');
my $done = $c->acknowledged($load);
$c->wait_until('the load goes on', sub { $c->acknowledged($load) > $done + 50 });
is(write_t($_, 'four'), '', 'all write: ' . $_->name) for $c->nodes;
$ops = $c->stop_load($load);
is(scalar(grep { $_->{verdict} ne 'A' && $_->{state} !~ /^(?:40001|open)$/ } values %$ops), 0, 'no client saw any of it');
$c->settle;
$c->tables_equal(\@tables, 'all four equal');
is($c->ask($one, 'SELECT count(*), count(DISTINCT node_id) FROM quorum.members'), '4|4', 'four members');

# --- one that lost its data takes its own place ---

my $address = $c->address($four);
$c->kill9($four);
$c->remove_node($four);
my $wiped = $c->add_node(name => 'wiped', conf => "quorum.node_name = 'n4'\nquorum.address = '$address'\n");
$c->restart($wiped);
$wiped->safe_psql($db, 'CREATE EXTENSION pg_quorum');
$c->fails_with($wiped, sprintf(q(SELECT quorum.join_cluster('%s')), $c->address($one)), '42710', qr/has a member of the name "n4" already/,
	'the name is taken');
$wiped->safe_psql($db, sprintf q(SELECT quorum.join_cluster('%s', replace => true)), $c->address($one));
is(status($wiped, 'role'), 'follower', 'unless it says that it replaces it: one call');
$c->comes_to_be($two, q(SELECT count(*), count(*) FILTER (WHERE node_name = 'n4' AND reachable) FROM quorum.members), '4|1', 'in its place');
is(write_t($_, 'wiped'), '', 'all write: ' . $_->name) for $c->nodes;
$c->settle;
$c->tables_equal(\@tables, 'all equal');

is($_->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', $_->name . ' had no defect') for $c->nodes;
for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
