//! One suite over both stores.

mod acknowledgements;
mod again;
mod broadcasts;
mod caps;
mod catalog;
mod digest_ends;
mod digest_members;
mod digest_starts;
mod digests;
mod disabled;
mod domain_events;
mod endpoints;
mod ends;
mod fixture;
mod kept;
mod ladder;
mod mailbox_log;
mod mailboxes;
mod moving;
mod newest;
mod outbox;
mod outside;
mod planning;
mod planning_outside;
mod policy;
mod reach;
mod receipts;
mod rules;
mod schedules;
mod sources;
mod steps;
mod together;
mod topics;
mod upkeep;
mod withdrawals;

use fixture::Fixture;

/// Runs each behaviour on SQLite and on PostgreSQL.
macro_rules! on_both {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$module::$name(super::Fixture::sqlite().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$module::$name(super::Fixture::postgres().await).await;
            })*
        }
    };
}

on_both!(
    outbox::what_is_accepted_is_due_until_it_is_planned,
    outbox::a_lease_that_is_lost_comes_back_and_the_old_one_is_fenced,
    outbox::leases_of_a_dead_process_are_released,
    outbox::what_is_leased_when_it_is_accepted_comes_back_like_any_lease,
    outbox::several_relays_never_lease_the_same_row,
    outbox::a_key_answers_again_and_refuses_another_body,
    outbox::requests_that_race_with_one_key_are_accepted_once,
    outbox::what_cannot_be_planned_is_put_off_until_it_expires,
    outbox::scheduled_notifications_wait_for_their_time,
    planning::recipients_get_entries_with_numbers_and_counts,
    planning::an_open_entry_with_the_collapse_key_is_replaced,
    planning::one_batch_may_replace_what_it_added,
    planning::what_is_archived_or_of_another_category_is_not_replaced,
    planning::what_is_too_late_expires,
    planning::a_notification_is_planned_in_parts_once,
    planning::a_part_that_is_too_late_leaves_what_was_sent,
    planning::what_is_put_off_between_parts_until_it_is_too_late_was_planned_as_far_as_it_went,
    planning::cancelling_between_parts_recalls_what_was_sent,
    planning::cancelling_recalls_open_entries_once,
    planning::cancelling_before_planning_sends_nothing,
    planning::cancelling_and_planning_never_leave_an_entry_behind,
    planning::the_same_ids_under_two_tenants_are_strangers,
    planning::lists_filter_and_page,
    acknowledgements::the_first_acknowledgement_wins,
    acknowledgements::unread_undoes_the_display_alone,
    acknowledgements::doing_it_twice_changes_and_writes_nothing,
    acknowledgements::equal_steps_become_one_change,
    acknowledgements::late_acknowledgements_of_what_is_gone_change_nothing,
    mailboxes::read_all_goes_in_chunks,
    reach::each_probe_counts_once_and_only_when_it_is_old_enough,
    reach::a_late_receipt_counts_once_its_delivery_is_counted,
    reach::what_is_not_used_is_forgotten_and_so_is_who_is_erased,
    reach::counting_side_by_side_counts_each_once,
    mailboxes::snoozed_entries_come_back,
    mailboxes::views_and_filters,
    mailboxes::contents_are_those_of_the_user_alone,
    mailbox_log::numbers_have_no_holes_however_many_write,
    mailbox_log::readers_behind_the_log_are_told_of_the_gap,
    mailbox_log::devices_confirm_cumulatively_and_are_bounded,
    topics::publications_are_numbered_in_order,
    topics::a_topic_keeps_its_epoch_from_the_first_look,
    topics::histories_are_bounded,
    topics::many_publishers_leave_no_hole,
    topics::a_topic_target_stands_in_the_history,
    endpoints::endpoints_are_made_listed_changed_and_deleted,
    endpoints::secrets_rotate_and_the_last_one_stays,
    endpoints::what_waits_moves_with_its_endpoint_in_order,
    moving::what_is_told_while_its_endpoint_moves_follows_it_in_order,
    moving::what_is_told_while_order_is_asked_for_goes_out_one_at_a_time,
    moving::a_move_that_was_broken_off_comes_to_its_end_in_order,
    moving::what_is_left_where_nobody_looks_is_fetched,
    moving::a_move_goes_on_to_where_its_endpoint_went_since,
    moving::what_was_under_way_while_its_endpoint_moved_holds_up_nobody_behind_it,
    moving::an_endpoint_may_move_while_it_is_told,
    endpoints::a_user_s_open_endpoints_are_found_and_go_with_her,
    endpoints::late_notifications_and_bounces_are_told_once,
    endpoints::what_ended_is_sent_again_last_in_its_strand,
    ladder::a_step_starts_once_its_deadline_passed_while_somebody_is_there,
    ladder::nobody_is_waited_for_who_is_not_there,
    ladder::who_stays_is_given_the_whole_deadline_and_no_more,
    ladder::whoever_looks_twice_starts_a_step_once,
    ladder::a_step_of_which_nothing_arrives_is_over_at_once,
    ladder::where_no_step_is_left_a_recipient_ends,
    ladder::an_answer_ends_the_ladder,
    ladder::the_time_to_live_ends_everybody_page_by_page,
    ladder::nodes_share_what_is_due_and_start_each_step_once,
    ladder::what_cannot_be_read_stands_in_nobodys_way,
    ladder::what_still_climbs_gives_way_to_the_newest_of_its_collapse_key,
    steps::a_step_that_was_passed_over_before_a_hold_stays_so,
    steps::what_was_skipped_before_a_hold_does_not_start_with_nothing_to_send,
    steps::the_first_answer_ends_it_for_those_who_completed_before,
    steps::a_late_answer_without_an_inbox_counts,
    ends::who_cancels_again_is_told_what_still_runs,
    ends::what_began_in_time_and_arrives_counts,
    ends::what_began_in_time_and_is_lost_is_waited_for_no_longer_than_its_lease,
    ends::who_ended_before_he_was_locked_answers_nothing,
    ends::many_that_are_too_late_end_a_few_at_a_time,
    steps::a_held_step_without_its_entry_starts_when_an_earlier_one_is_tried_again,
    steps::no_first_attempt_starts_in_quiet_hours,
    steps::what_arrives_in_its_time_makes_nobody_due,
    steps::what_arrives_after_the_last_step_failed_completes_the_ladder,
    steps::what_arrives_after_the_later_steps_were_passed_completes_the_ladder,
    newest::who_stands_in_the_last_step_gives_way_to_a_newer_one,
    newest::of_one_batch_the_newest_alone_goes_out,
    newest::an_older_one_that_is_planned_late_takes_nobodys_place,
    newest::what_is_sent_later_is_newer_whenever_it_was_accepted,
    newest::a_clock_that_was_set_back_swallows_nothing,
    caps::a_cap_holds_over_any_stretch_of_time_however_alerts_are_planned,
    caps::planners_at_once_never_exceed_a_cap,
    caps::what_a_throttle_holds_goes_out_later_within_it,
    caps::what_is_held_is_silent_in_the_inbox_and_pushed_once,
    caps::whoever_changes_what_he_wants_is_looked_at_anew,
    caps::of_what_is_held_the_newest_goes_out_and_the_late_expires,
    digests::alerts_that_wait_together_go_out_as_one,
    digests::what_is_over_before_it_closes_drops_out,
    digests::an_empty_digest_sends_nothing,
    digests::answering_a_digest_answers_its_members,
    digests::where_a_digest_comes_to_nothing_its_members_go_on,
    digests::what_a_digest_brings_late_completes_its_members,
    digests::a_sliding_window_moves_on_and_no_further_than_its_maximum,
    digests::a_digest_closes_once_however_many_try,
    digests::whoever_joins_while_it_closes_is_in_one_digest,
    digests::more_than_a_digest_holds_goes_out_with_another,
    digests::an_erased_user_waits_in_none,
    digest_ends::a_digest_closes_before_its_members_expire,
    digest_ends::a_member_ends_with_its_digest_where_that_lives_longer,
    digest_ends::a_digest_of_which_nothing_is_left_is_not_sent,
    digest_ends::nor_is_one_that_was_not_planned_yet,
    digest_ends::an_attempt_under_way_is_told_to_who_takes_back_the_last_of_a_digest,
    digest_ends::an_attempt_knows_which_members_of_its_digest_are_over,
    digest_ends::alerts_are_bundled_by_their_digest_key,
    digest_ends::nodes_share_what_closes_and_a_lost_lease_changes_nothing,
    digest_ends::where_nobody_is_left_all_that_waits_ends,
    digest_ends::a_step_has_its_time_once_its_digest_went_out,
    digest_ends::who_saw_a_digest_saw_its_members,
    digest_ends::tenants_have_their_turn,
    digest_starts::a_digest_whose_members_were_overtaken_ends_at_its_start,
    digest_starts::no_attempt_of_a_digest_commits_after_its_member_was_cancelled_by_pages,
    digest_starts::whoever_cancels_a_member_is_told_what_starts_of_its_digest_meanwhile,
    digest_members::a_member_of_two_digests_is_open_until_both_came_to_something,
    digest_members::a_digest_that_is_planned_too_late_ends_its_members,
    digest_members::a_step_whose_digest_closes_early_has_its_successor_in_time,
    digest_members::who_is_left_open_by_a_digest_that_ended_is_found,
    planning_outside::a_newer_notification_overtakes_what_waits_and_replaces_what_arrived,
    planning_outside::news_of_a_message_is_not_that_of_what_waits_to_replace_it,
    planning_outside::what_is_suppressed_or_turned_off_is_skipped,
    planning_outside::cancelling_stops_what_waits_and_takes_back_what_can_be,
    planning_outside::a_plain_address_is_a_recipient_without_an_inbox,
    planning_outside::a_suppressed_address_stays_so_when_its_owner_is_erased,
    policy::preferences_are_changed_together_and_bounded,
    policy::choices_of_many_are_read_together,
    policy::a_click_is_a_preference,
    broadcasts::a_page_moves_the_cursor_and_makes_the_next_one_due_behind_what_waits,
    broadcasts::a_page_may_lease_the_next_one_for_its_planner,
    broadcasts::whoever_comes_twice_is_planned_once,
    broadcasts::cancelling_and_the_time_to_live_end_a_broadcast,
    broadcasts::leases_that_hold_are_extended_and_no_others,
    policy::the_whole_of_the_preferences_is_replaced,
    policy::an_erased_user_wants_nothing_any_more,
    policy::a_cap_holds_however_many_alerts_start_at_once,
    policy::alerts_that_no_cap_counts_go,
    catalog::categories_are_replaced_listed_and_removed,
    catalog::a_template_s_versions_go_on_and_are_bounded,
    catalog::a_deleted_template_stays_for_what_was_accepted,
    disabled::an_endpoint_that_only_fails_is_disabled_and_the_others_are_told,
    disabled::whose_endpoint_is_gone_hears_of_it_in_a_notification,
    disabled::who_disables_or_deletes_an_endpoint_tells_the_others,
    endpoints::what_waits_for_a_closed_endpoint_ends_page_by_page,
    together::nobody_waits_for_who_waits_for_him,
    kept::what_was_revived_of_an_old_notification_stays_until_it_ends,
    kept::what_was_revived_of_an_old_event_stays_until_it_ends,
    kept::work_that_no_lane_leads_to_is_counted,
    kept::what_is_read_together_has_so_many_bytes,
    withdrawals::an_answer_ends_what_other_devices_are_sent,
    withdrawals::what_is_answered_itself_is_not_taken_back,
    withdrawals::what_is_answered_and_lost_is_not_sent_again,
    withdrawals::an_attempt_that_did_not_begin_is_handed_out_anew,
    withdrawals::cancelling_many_ends_page_by_page_and_nothing_starts_meanwhile,
    withdrawals::where_one_answer_is_enough_it_ends_for_all,
    withdrawals::who_answered_for_all_is_forgotten_when_he_is_erased,
    withdrawals::no_attempt_commits_after_a_cancel_did,
    withdrawals::no_attempt_of_a_recipient_commits_after_his_answer_did,
    upkeep::erasing_leaves_nothing_that_names_the_user,
    upkeep::an_erased_user_cannot_be_brought_back,
    upkeep::the_janitor_takes_what_is_too_old,
    upkeep::logs_that_are_cut_by_age_announce_the_gap,
    upkeep::forgotten_entries_leave_the_inbox_by_a_change,
    rules::a_change_makes_a_version_and_the_newest_are_kept,
    rules::a_tenant_has_so_many_rules_and_no_other_tenants,
    rules::a_deleted_rule_counts_no_more_and_its_numbers_go_on,
    domain_events::a_source_and_id_are_taken_once,
    domain_events::events_that_race_are_taken_once,
    domain_events::a_lease_comes_back_and_the_old_one_is_fenced,
    domain_events::several_nodes_never_lease_the_same_event,
    domain_events::a_rule_keeps_its_newest_errors,
    domain_events::what_is_done_and_old_is_swept,
    domain_events::lists_go_from_the_newest_by_type,
    domain_events::erasing_a_user_takes_what_events_said_that_told_him,
    schedules::a_schedule_is_what_was_put_last_and_stays_due_while_its_times_are_the_same,
    schedules::each_time_is_sent_once_however_many_try,
    schedules::what_was_prepared_from_an_older_schedule_is_not_sent,
    schedules::the_latest_runs_are_kept_and_go_with_their_schedule,
    schedules::an_erased_user_is_taken_out_of_what_schedules_send,
    sources::a_source_is_what_was_put_last,
    sources::a_tenant_has_so_many_sources_and_no_other_tenants,
    receipts::a_bounce_ends_its_delivery_and_suppresses_a_dead_address,
    receipts::suppressed_addresses_are_known_by_their_reasons,
    receipts::an_email_is_found_by_its_id_whose_ever_it_is,
    receipts::a_bounce_before_the_settlement_counts_whatever_the_attempt_says,
    receipts::what_is_answered_without_an_inbox_is_kept_once,
    receipts::events_name_the_user_as_the_tenant_does,
    receipts::events_forget_who_is_erased,
    outside::what_is_due_is_handed_out_once_with_an_attempt,
    outside::a_crash_between_handing_out_and_settling_tries_again_with_the_same_id,
    outside::what_a_dead_process_tried_is_due_at_once,
    outside::a_failed_attempt_comes_back_at_its_time_until_it_is_dead,
    outside::a_suppressed_address_is_not_tried,
    outside::the_time_to_live_ends_what_waits_and_not_what_runs,
    outside::a_strand_keeps_its_order_and_a_redrive_goes_last,
    outside::handing_out_costs_by_the_lane_and_not_by_the_backlog,
    outside::several_nodes_never_try_the_same_attempt,
    outside::lanes_come_in_turn_and_a_full_one_is_put_off,
    outside::dead_letters_are_listed_and_redriven_by_filter,
    outside::an_address_that_is_gone_is_not_used_again,
    outside::a_recall_ends_in_recalled_or_leaves_what_is,
    outside::what_was_withdrawn_is_not_tried_and_its_end_stands,
    outside::a_row_that_cannot_be_read_does_not_stop_its_neighbours,
    outside::what_messages_are_made_of_is_loaded_together,
    again::attempts_are_numbered_on_after_one_was_lost,
    again::a_late_answer_of_before_a_redrive_is_refused,
    again::a_recall_gives_way_to_a_redrive_of_what_never_arrived,
    again::what_is_sent_again_in_vain_stays_what_it_was,
    again::what_was_to_replace_still_does_and_nothing_else,
    again::a_redrive_gives_the_first_time_to_live_again,
    again::what_its_sender_took_back_is_not_sent_again,
    again::what_was_turned_off_since_is_not_tried_any_more,
    again::news_of_what_waits_for_another_attempt_counts_at_once,
    again::a_lease_of_what_was_withdrawn_is_not_extended,
    again::dead_letters_of_one_endpoint_are_redriven_alone,
    again::an_address_that_looks_like_an_endpoint_is_none,
    together::an_endpoint_may_move_while_what_ended_is_sent_again,
    again::tenants_are_looked_at_in_turn_whatever_lanes_they_have,
    again::news_that_overtakes_the_outcome_is_kept,
    again::what_arrives_while_it_is_withdrawn_is_taken_back_or_stands,
    again::work_that_cannot_be_read_is_a_dead_letter_and_in_nobodys_way,
);
